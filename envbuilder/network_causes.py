"""Why something could not be downloaded, from the words of whoever tried: uv, pip, apt, BuildKit or Docker."""

import re

AGAIN = "then run the same command: what has been finished is kept"
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"certificate verify failed|UnknownIssuer|invalid peer certificate|SSLCertVerificationError|x509: certificate",
        "a server's TLS certificate is signed by a CA that is not known there",
        "give it the CA bundle: `--ca-bundle FILE`",
    ),
    (
        r"\b407\b.{0,3}Proxy Authentication|Proxy Authentication Required",
        "the proxy asks for credentials (407)",
        "put them into the proxy's address: `HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT`",
    ),
    (
        r"\(?401\b.{0,3}(Unauthorized|Client Error)|lack of valid authentication",
        "the server asks for credentials (401)",
        "put them into ~/.netrc, one line a host: `machine HOST login USER password PASSWORD`",
    ),
    (
        r"\b403\b.{0,3}(Forbidden|Client Error)",
        "the server refuses access (403)",
        "check the credentials in ~/.netrc, and whether the mirror or the proxy lets this file through",
    ),
    (
        r"\b429\b.{0,3}(Too Many|Client Error)|toomanyrequests|pull rate limit",
        "the server refuses so many requests (429)",
        f"wait some minutes, {AGAIN}",
    ),
    (
        r"\b404\b.{0,3}(Not Found|Client Error)",
        "a file is not on the server (404): it was removed, or the mirror never had it",
        "use an index or a mirror that has it, or take what there is now: `envbuilder lock`, `apt-get update`",
    ),
    (
        r"HTTP status server error|too many 5[0-9]{2} error responses|"
        r"\b5[0-9]{2}\b.{0,3}(Internal|Bad Gateway|Service Unav|Gateway Time|Server Error)",
        "the server has a problem of its own (5xx)",
        f"wait some minutes, {AGAIN}",
    ),
    (
        r"name resolution|Temporary failure resolving|Could not resolve|dns error|Name or service not known|"
        r"failed to lookup address|no such host",
        "the network was cut, or the name of a server cannot be resolved",
        f"check the network, DNS and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"Network is unreachable|No route to host|connection refused|Could not connect to|error sending request|"
        r"NewConnectionError",
        "the network was cut, or a server cannot be reached",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"network timeout|operation timed out|read timed out|connection timed out|timed out|i/o timeout",
        "the server, or the way to it, stopped answering in the middle",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"end of file before message length|error reading a body|IncompleteRead|connection (was )?(broken|reset)|"
        r"remote end closed connection|unexpected EOF|connection closed prematurely|error reading from server\. remote",
        "the connection was cut in the middle of a download",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
    (
        r"Bad CRC|Failed to extract archive|unexpected BufError|unexpected JSON|BadZipFile|zipfile|Hash Sum mismatch|"
        r"File has unexpected size|NO_PUBKEY|signatures? (was|were|couldn't)|Clearsigned file isn't valid",
        "a download arrived damaged",
        "run the same command again; if it stays so, a proxy or the mirror changes what it serves",
    ),
    (
        r"Release file .* is (not valid yet|expired)",
        "the clock of this machine is wrong, or the mirror is out of date",
        "set the clock, or use another mirror",
    ),
    (
        r"Request failed after",
        "the network was cut, or a server does not answer as it should",
        f"check the network and the proxy (`HTTPS_PROXY`), {AGAIN}",
    ),
)


def find_network_cause(text: str) -> tuple[str, str] | None:
    """What went wrong on the way to a server, and what to do; None if it was nothing of that kind."""
    for pattern, cause, hint in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return cause, hint
    return None
