"""A public address for the prediction server, through ngrok: ``open_tunnel(server, settings)``."""

from prospect_lib.server.tunnel.tunnel import Tunnel, check_token, open_tunnel

__all__ = ["Tunnel", "check_token", "open_tunnel"]
