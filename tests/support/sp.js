/* The part of Snowplow's sp.js that npm does not have: the queue of the tag. The tracker behind
   it is the real one, which this file follows: window.snowplowBrowserTracking. */
(() => {
  const name = window.GlobalSnowplowNamespace.shift();
  const { newTracker, ...calls } = window.snowplowBrowserTracking;
  const trackers = {};
  const call = (method, ...rest) => calls[method](...rest);
  let loading = Promise.resolve(); // plugins, for which the calls behind them wait

  function load(src, [library, plugin]) {
    return new Promise((resolve) => {
      const script = Object.assign(document.createElement("script"), { src });
      script.onload = () => {
        const { [plugin]: create, ...more } = window[library];
        Object.assign(calls, more);
        calls.addPlugin({ plugin: create() });
        resolve();
      };
      document.head.append(script);
    });
  }

  function run([method, ...rest]) {
    if (typeof method === "function") return method.apply({ ...trackers }, rest);
    if (method === "newTracker") return (trackers[rest[0]] = newTracker(...rest));
    if (method === "addPlugin") return (loading = load(...rest));
    loading.then ? loading.then(() => call(method, ...rest)) : call(method, ...rest);
  }

  const waiting = window[name].q;
  window[name].q = { push: run };
  waiting.forEach(run);
})();
