"""What ngrok's errors mean here, each as one sentence with its remedy.

Source: https://ngrok.com/docs/errors/err_ngrok_105 and the pages of the other codes. ngrok's own
text is never passed on: some of it contains the token.
"""

import re

from pyngrok.exception import PyngrokNgrokInstallError

from prospect_lib.server.tunnel.agent import running_agents
from prospect_lib.settings import SECRETS

_COPY = f"Copy it again: {SECRETS['NGROK_TOKEN']}"
_UPDATE = "Run `ngrok update`, or delete {path}: then the next start downloads the newest one"
_LOCAL = "Everything on this machine works without a tunnel"
_DOMAINS = "https://dashboard.ngrok.com/domains lists those of your account"
#: The codes that opening a tunnel may meet; each sentence goes on with the code in brackets.
SENTENCES = {
    105: ("NGROK_TOKEN is no authtoken of ngrok", _COPY),
    107: ("NGROK_TOKEN is not valid any more: it was reset or revoked", _COPY),
    108: (
        "your ngrok account runs as many agents as its plan allows",
        "{agents} All agents of the account: https://dashboard.ngrok.com/agents",
    ),
    120: ("the ngrok agent is too old: ngrok does not support its version any more", _UPDATE),
    121: ("the ngrok agent is too old for your ngrok account", _UPDATE),
    319: ("the domain is not reserved for your ngrok account", _DOMAINS),
    320: ("the domain belongs to another ngrok account than NGROK_TOKEN", _DOMAINS),
    334: (
        "another tunnel is online at the same address, and the free plan has one address",
        "{agents} All tunnels of the account: https://dashboard.ngrok.com/endpoints",
    ),
    725: (
        "your ngrok account has used up its traffic of this month",
        f"https://dashboard.ngrok.com/usage says how much it may use. {_LOCAL}",
    ),
    4018: (
        "ngrok needs a verified account",
        "Confirm your e-mail address at https://dashboard.ngrok.com, then copy NGROK_TOKEN again: "
        f"{SECRETS['NGROK_TOKEN']}",
    ),
}
_UNREACHABLE = re.compile(r"failed to dial|no such host|x509|i/o timeout|connection refused", re.I)


def explain(error: Exception, path: str) -> str:
    """Return the reason why there is no tunnel, and its remedy.

    Args:
        error: of pyngrok, or of the operating system.
        path: the agent.
    """
    logs = [log.line for log in getattr(error, "ngrok_logs", [])]
    text = "\n".join([str(error), *logs])
    if code := re.search(r"ERR_NGROK_(\d+)", text):
        return sentence(int(code[1]), path)
    if isinstance(error, PyngrokNgrokInstallError):
        return (
            "the ngrok agent cannot be downloaded. Install it (https://ngrok.com/download) and "
            f"set PYNGROK_NGROK_PATH to its path. {_LOCAL}."
        )
    if _UNREACHABLE.search(text):
        return (
            "the ngrok agent does not reach ngrok: a firewall or a proxy keeps it from "
            f"connect.ngrok-agent.com:443. {_LOCAL}."
        )
    return (
        f"the ngrok agent did not open the tunnel ({type(error).__name__}). If `{path} version` "
        "does not print version 3, install it again; else try again."
    )


def sentence(code: int, path: str) -> str:
    """Return what an error code of ngrok means, and its remedy."""
    if code not in SENTENCES:
        return (
            f"ngrok refuses the tunnel (ERR_NGROK_{code}): see "
            f"https://ngrok.com/docs/errors/err_ngrok_{code}."
        )
    meaning, remedy = SENTENCES[code]
    return f"{meaning} (ERR_NGROK_{code}). {remedy.format(path=path, agents=_agents())}."


def _agents() -> str:
    """Name the agents of this machine, with the command that ends each."""
    pids = [str(agent.pid) for agent in running_agents()]
    if not pids:
        return "None runs on this machine."
    return f"On this machine: `kill {' '.join(pids)}` ends {len(pids)}."
