"""Origins and public addresses: accepted in a browser's spelling, refused with the right one."""

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.server.snippet import Snippet
from prospect_lib.web_addresses import parse_address, parse_domain, parse_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://www.example.com", "https://www.example.com"),
        ("HTTPS://WWW.Example.com:443/", "https://www.example.com"),
        ("http://shop.example:8080", "http://shop.example:8080"),
        ("http://intranet:80", "http://intranet"),
        ("https://my_shop.example.", "https://my_shop.example."),
        ("http://10.0.0.7:3000", "http://10.0.0.7:3000"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("https://www.Bücher.example", "https://www.xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
    ],
)
def test_an_origin_is_spelled_as_a_browser_sends_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin == parse_origin(origin)


@pytest.mark.parametrize(
    ("text", "reason", "right"),
    [
        ("www.example.com", "http:// or https:// is missing", "https://www.example.com"),
        ("Bücher.example", "is missing", "https://xn--bcher-kva.example"),
        ("https:www.shop.example", "is missing", "https://www.shop.example"),
        ("//www.shop.example", "is missing", "https://www.shop.example"),
        ("*", "without *", "https://www.example.com"),
        ("https://*.shop.example", "without *", "https://www.example.com"),
        ("https://www.shop.example/cart", "more than scheme", "https://www.shop.example"),
        ("https://shop.example:444?x=1", "more than scheme", "https://shop.example:444"),
        ("https://shop.example/#x", "more than scheme", "https://shop.example"),
        ("https://me:s3cret@shop.example", "a user name or a password", "https://shop.example"),
        ("https://shop.example:99999", "port is not a number", "https://www.example.com"),
        ("https://shop.example:0", "port is not a number", "https://www.example.com"),
        ("https://shop.example:http", "port is not a number", "https://www.example.com"),
        ("ftp://shop.example", "neither http nor https", "https://www.example.com"),
        ("https://", "no host", "https://www.example.com"),
        ("", "no host", "https://www.example.com"),
        ("null", "pages without an origin", "https://www.example.com"),
        ("javascript:alert(1)", "neither http nor https", "https://www.example.com"),
        ("https://s3cret@shop.example", "'https://***@shop.example'", "https://shop.example"),
        ("https://a b.example", "not the name of a host", "https://www.example.com"),
        ("https://shop\n.example", "a character that no address has", "https://shop.example"),
        ("https://-.example", "not the name of a host", "https://www.example.com"),
        ("https://😀.example", "punycode", "https://www.example.com"),
        ("http://300.1.1.1", "300", "https://www.example.com"),
        ("http://[::1", "Invalid IPv6", "https://www.example.com"),
        ("http://[fe80::1%eth0]", "zone", "https://www.example.com"),
    ],
)
def test_another_shape_is_refused_with_the_right_one(text: str, reason: str, right: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_origin(text)
    message = str(refusal.value)
    assert reason in message and message.endswith(f"Write it as {right}")
    assert "\n" not in message and "s3cret" not in message
    assert parse_origin(right) == right


@pytest.mark.parametrize("url", ["javascript:alert(1)", "shop.example", "/", "https://a.example?x"])
def test_a_snippet_for_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="Write it as https://"):
        Snippet(url)


def test_a_public_address_may_have_a_path_and_nothing_more() -> None:
    assert parse_address("https://www.example.com/scores/") == "https://www.example.com/scores"
    assert parse_address("http://[::1]:8080") == "http://[::1]:8080"
    with pytest.raises(SettingsError, match=r"a query\. Write it as https://a\.example/scores$"):
        parse_address("https://a.example/scores?x")


def test_a_domain_is_the_name_of_a_public_host() -> None:
    assert parse_domain("Name.ngrok-free.app") == "name.ngrok-free.app"
    for text in ("https://name.ngrok-free.app", "name.ngrok-free.app/", "name", "name.app:80", "*"):
        with pytest.raises(SettingsError, match=r"Write it as name\.(ngrok-free\.app|app)$"):
            parse_domain(text)
