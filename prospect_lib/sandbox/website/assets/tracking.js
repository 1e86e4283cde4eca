/* The Snowplow tracker of this site: page views, page pings, forms with masked values, and
   the video. `snowplow(…)` works on the page as it does with Snowplow's tag. */

const { newTracker, enableActivityTracking, trackPageView } = window.snowplowBrowserTracking;
const { FormTrackingPlugin, enableFormTracking } = window.snowplowFormTracking;
const media = window.snowplowMedia;

export const appId = document.body.dataset.appId;

/** Whether the browser denies storage, as it may to a page inside another site's. */
export const forgetful = ["localStorage", "sessionStorage"].filter(isDenied).map(replace).length > 0;

function isDenied(name) {
  try {
    return !window[name];
  } catch {
    return true;
  }
}

/** Keep what would be stored until the page is left. */
function replace(name) {
  const kept = new Map();
  const getItem = (key) => kept.get(key) ?? null;
  const setItem = (key, value) => kept.set(key, value);
  const storage = { getItem, setItem, removeItem: (key) => kept.delete(key), clear: () => kept.clear() };
  Object.defineProperty(window, name, { value: storage });
}

let confirm;
/** Resolves when the collector has confirmed this page's first event. */
export const confirmed = new Promise((resolve) => (confirm = resolve));

export const tracker = newTracker("sp", location.origin, {
  appId,
  cookieSecure: location.protocol === "https:", // a Secure cookie is dropped on http
  cookieSameSite: "Lax",
  // a page inside another site's, as in a notebook of Colab, gets no such cookie back
  stateStorageStrategy: window.top === window ? "cookieAndLocalStorage" : "localStorage",
  contexts: { webPage: true },
  keepalive: true, // a page's last event is sent after the page is left
  onRequestSuccess: confirm,
  plugins: [FormTrackingPlugin(), media.SnowplowMediaPlugin()],
});

answerQueue();
enableActivityTracking({ minimumVisitLength: 5, heartbeatDelay: 10 });
enableFormTracking({ options: { fields: { transform: masked } } });
trackPageView();
document.querySelectorAll("video").forEach(trackVideo);

/** Mask what is typed or chosen; an empty value stays empty. */
function masked(value) {
  return value ? "***" : value;
}

/** Turn the queue of calls into a function that runs them: `snowplow(function () { this.sp })`
    or `snowplow("trackPageView", …)`. */
function answerQueue() {
  const waiting = window.snowplow?.q ?? [];
  window.snowplow = (call, ...rest) =>
    typeof call === "function"
      ? call.apply({ sp: tracker }, rest)
      : window.snowplowBrowserTracking[call.split(":")[0]](...rest);
  waiting.forEach((call) => window.snowplow(...call));
}

/** Track one media element; each playback session has its own `id`. */
function trackVideo(video) {
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${video.id}`;
  const player = () => ({
    currentTime: video.currentTime,
    duration: Number.isFinite(video.duration) ? video.duration : undefined,
    ended: video.ended,
    fullscreen: document.fullscreenElement === video,
    muted: video.muted,
    paused: video.paused,
    playbackRate: video.playbackRate,
    volume: Math.round(video.volume * 100),
  });
  media.startMediaTracking({
    id,
    player: { ...player(), label: video.title, mediaType: "video", playerType: "org.whatwg-media_element" },
    boundaries: [25, 50, 75],
  });
  const on = (event, track) => video.addEventListener(event, () => track({ id, player: player() }));
  on("loadedmetadata", media.trackMediaReady);
  on("play", media.trackMediaPlay);
  on("pause", media.trackMediaPause);
  on("ended", media.trackMediaEnd);
  on("seeking", media.trackMediaSeekStart);
  on("seeked", media.trackMediaSeekEnd);
  on("timeupdate", media.updateMediaTracking);
  on("volumechange", ({ player: { volume, ...state } }) =>
    media.trackMediaVolumeChange({ id, player: state, newVolume: volume }));
}
