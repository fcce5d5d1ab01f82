"""Places of addresses, read from mmdb files of the flat layout with maxminddb; names and codes judged by pycountry."""

import ipaddress
from collections import Counter

import maxminddb
import pycountry

UNKNOWN = {
    "country_code": "--",
    "subdivision_name": "",
    "city_name": "",
    "latitude": None,
    "longitude": None,
    "accuracy_km": None,
    "time_zone": None,
}
# Not of the public internet by IANA's registries of special addresses; no file can know a place for these.
_SPECIAL = [
    ipaddress.ip_network(text)
    for text in """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
    ::/96 64:ff9b:1::/48 100::/64 2001:2::/48 2001:db8::/32 3fff::/20 fc00::/7 fe80::/10 fec0::/10 ff00::/8
    """.split()
]


class Places:
    """A chain of mmdb files; the first that knows an address answers."""

    def __init__(self, files):
        self._readers = [maxminddb.open_database(file) for file in files]
        self._by_address = {}

    def of(self, address):
        """The fields of the output that the file determines, for an address or None."""
        if address not in self._by_address:
            self._by_address[address] = self._look_up(address)
        return self._by_address[address]

    def _look_up(self, address):
        address = _inner(address)
        if address is None or any(address in network for network in _SPECIAL if network.version == address.version):
            return UNKNOWN
        for reader in self._readers:
            if address.version == 6 and reader.metadata().ip_version == 4:
                continue
            record = reader.get(address)
            if record is not None:
                return _place(record)
        return UNKNOWN


def _inner(address):
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if address is None or address.version == 4:
        return address
    last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo:
        return address.teredo[1]
    translated = ["::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"]
    if any(address in ipaddress.ip_network(network) for network in translated):
        return last
    return address.sixtofour or address


def _place(record):
    code = record.get("country_code") or ""
    if "country" in record:
        raise SystemExit("this checker reads the flat layout (country_code, state1, city), not the nested one")
    if len(code) != 2 or code == "ZZ":  # DB-IP's mark of an address that nobody uses
        return UNKNOWN
    return {
        "country_code": code,
        "subdivision_name": record.get("state1") or "",
        "city_name": record.get("city") or "",
        "latitude": record.get("latitude"),
        "longitude": record.get("longitude"),
        "accuracy_km": None,
        "time_zone": record.get("timezone") or None,
    }


class Names:
    """Judges what the file does not hold: the country's name and the subdivision's code."""

    def __init__(self):
        self.counts = Counter()
        self._country_names = {}
        self._subdivision_codes = {}
        self._verdicts = {}

    def faults(self, place):
        """What is wrong with these two fields of an output record, as sentences."""
        key = (place["country_code"], place["country_name"], place["subdivision_name"], place["subdivision_code"])
        if key not in self._verdicts:
            self._verdicts[key] = [fault for fault in (self._country(*key[:2]), self._subdivision(key[0], *key[2:])) if fault]
        return self._verdicts[key]

    def _country(self, code, name):
        if self._country_names.setdefault(code, name) != name:
            return f"country {code} has two names: {self._country_names[code]!r} and {name!r}"
        if code == "--":
            return f"the unknown country is named {name!r}" if name else None
        country = pycountry.countries.get(alpha_2=code)
        known = {getattr(country, key, None) for key in ("name", "common_name", "official_name")} if country else set()
        if name in known:
            self.counts["country names equal to pycountry's"] += 1
        elif name:
            self.counts["country names in other words than pycountry's"] += 1
        else:
            return f"country {code} has no name" if country else None
        return None

    def _subdivision(self, country, name, code):
        if self._subdivision_codes.setdefault((country, name), code) != code:
            return f"subdivision {country} {name!r} has two codes"
        if not name:
            return f"no subdivision, but the code {code!r}" if code else None
        same_name = [
            subdivision
            for subdivision in pycountry.subdivisions.get(country_code=country) or []
            if subdivision.name.casefold() == name.casefold()
        ]
        if len(same_name) != 1:
            kind = "subdivisions without" if not code else "subdivisions with"
            self.counts[f"{kind} a code, of a name that pycountry has not or twice"] += 1
            return None
        self.counts["subdivision codes compared with pycountry's by the same name"] += 1
        # A province may have its region's name in short: Madrid is ES-M within ES-MD, "Madrid, Comunidad de".
        allowed = [full.partition("-")[2] for full in (same_name[0].code, same_name[0].parent_code) if full]
        return None if code in allowed else f"subdivision {country} {name!r} has code {code!r}, pycountry {' or '.join(allowed)}"
