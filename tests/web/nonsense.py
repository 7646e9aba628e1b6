"""Requests that no honest client sends, for whatever endpoints there are."""

from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

_NAMES = """master slave(1) state state-summary slaves frameworks tasks roles flags version health
    metrics snapshot help files browse read download debug offers explain redirect containers
    monitor statistics logging toggle system stats.json state.json .. . %2e%2e %00 %ff a""".split()
_KEYS = """jsonp limit offset order framework_id task_id slave_id agent_id role timeout format path
    length level duration container_id""".split()
_VALUES = ("", "0", "-1", "1", "99999999999999999999", "asc", "json", "/", "../..", "1secs", "cb")

_value = st.one_of(st.sampled_from(_VALUES), st.binary(max_size=20).map(quote_from_bytes))
_query = st.lists(st.tuples(st.sampled_from(_KEYS), _value), max_size=4).map(
    lambda pairs: "&".join(f"{key}={value}" for key, value in pairs)
)
_path = st.lists(st.sampled_from(_NAMES), max_size=5).map(lambda names: "/" + "/".join(names))

requests = st.builds(
    lambda method, path, query: f"{method} {path}?{query}",
    st.sampled_from(("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")),
    _path,
    _query,
)
"""Request lines without the version."""

ALLOWED = (0, 200, 307, 400, 404, 405)
"""What may be answered to them; 0 stands for a closed connection."""
