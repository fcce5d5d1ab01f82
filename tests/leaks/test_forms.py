"""The search for addresses itself: forms worked out with other tools (md5sum, sha1sum, sha256sum and base64 of
coreutils, bc), and each form found wherever it stands."""

import unittest

from tests.harness import interpreter

interpreter.require_packages()

from tests.leaks.forms import forms  # noqa: E402
from tests.leaks.search import Searcher  # noqa: E402

V4, V6 = "203.113.145.167", "2a02:120b:2c0:0:89ab::d1f2"
SHORT = "112.7.0.113"
KNOWN = {
    V4: {
        "dotted": "203.113.145.167",
        "dashed": "203-113-145-167",
        "hex": "cb7191a7",
        "hex, little endian": "a79171cb",
        "hex with colons": "cb:71:91:a7",
        "integer": "3413217703",
        "integer, little endian": "2811326923",
        "mapped": "::ffff:203.113.145.167",
        "mapped, hex groups": "::ffff:cb71:91a7",
        "mapped, expanded": "0000:0000:0000:0000:0000:ffff:cb71:91a7",
        "mapped, URL-encoded": "%3a%3affff%3a203.113.145.167",
        "PTR": "167.145.113.203.in-addr.arpa",
        "/24": "203.113.145.",
        "base64 of raw": "y3GRpw==",
        # Of MjAzLjExMy4xNDUuMTY3, eDIwMy4xMTMuMTQ1LjE2Nw== and eHgyMDMuMTEzLjE0NS4xNjc= what no neighbour changes.
        "base64 of text, offset 0": "MjAzLjExMy4xNDUuMTY3",
        "base64 of text, offset 1": "IwMy4xMTMuMTQ1LjE2N",
        "base64 of text, offset 2": "yMDMuMTEzLjE0NS4xNj",
        "md5 of text, hex": "bdb3297c537050cdaa57345a858e790b",
        "md5 of raw, hex": "d195b5520560a82c978209142b3a317b",
        "sha1 of text, hex": "b54f511073b68d09d5bf2ca2144cb37dc15b71b1",
        "sha1 of raw, hex": "cad6b8d0e3924583f5aee3eb79b397a14b766163",
        "sha256 of text, hex": "c2821bc9e02d9288bc6d70a68363eaacb86b5e2a5db52bbd365fc8e705c3b1e9",
        "sha256 of raw, hex": "47d4a677001d3267fd6ae2a982afaf30bb1de4def1ee2b56a849ac95002903b1",
    },
    V6: {
        "compressed": "2a02:120b:2c0:0:89ab::d1f2",
        "without zeros in front": "2a02:120b:2c0:0:89ab:0:0:d1f2",
        "expanded": "2a02:120b:02c0:0000:89ab:0000:0000:d1f2",
        "hex": "2a02120b02c0000089ab00000000d1f2",
        "hex, little endian": "f2d100000000ab890000c0020b12022a",
        "hex with colons": "2a:02:12:0b:02:c0:00:00:89:ab:00:00:00:00:d1:f2",
        "integer": "55838326372417273491121023647146365426",
        "integer, little endian": "322758365023384230268956902243198698026",
        "compressed, URL-encoded": "2a02%3a120b%3a2c0%3a0%3a89ab%3a%3ad1f2",
        "expanded, URL-encoded": "2a02%3a120b%3a02c0%3a0000%3a89ab%3a0000%3a0000%3ad1f2",
        "PTR": "2.f.1.d.0.0.0.0.0.0.0.0.b.a.9.8.0.0.0.0.0.c.2.0.b.0.2.1.2.0.a.2.ip6.arpa",
        "/64": "2a02:120b:2c0:0:",
        "/64, expanded": "2a02:120b:02c0:0000:",
        "/64, hex": "2a02120b02c00000",
        "base64 of raw, offset 0": "KgISCwLAAACJqwAAAADR8",
        "base64 of raw, offset 1": "oCEgsCwAAAiasAAAAA0f",
        "base64 of raw, offset 2": "qAhILAsAAAImrAAAAANHy",
        "md5 of text, hex": "cd979347d14761f2d619a5dd15d0ab4e",
        "md5 of raw, hex": "e2ec0c9be1c5e7428559d67dc28192cb",
        "sha1 of text, hex": "c32fe188352b81a8552e8d2489d2d4f961feba44",
        "sha256 of raw, hex": "cf8ebba5628dd85a5d20fd978310c83152322263d84aa3c01173c3d346882989",
    },
    SHORT: {"zero-padded": "112.007.000.113", "hex": "70070071", "/24": "112.7.0."},
}


class Forms(unittest.TestCase):
    """The forms and the search for them."""

    @classmethod
    def setUpClass(cls):
        cls.searcher = Searcher([V4, V6, SHORT])

    def test_forms_are_those_that_other_tools_make(self):
        for address, known in KNOWN.items():
            made = {form.name: form.needle.decode("latin-1") for form in forms(address)}
            for name, text in known.items():
                self.assertEqual(made[name], text, f"{name} of {address}")

    def test_no_form_is_shorter_than_its_key_or_longer_than_two_chunks_share(self):
        for address in KNOWN:
            for form in forms(address):
                self.assertTrue(8 <= len(form.needle) <= 100, form)

    def test_each_form_is_found_between_other_bytes_and_in_capitals(self):
        for address in KNOWN:
            for form in forms(address):
                needles = {form.needle, form.needle.upper() if form.folded else form.needle}
                for needle in needles:
                    for around in (b"", b" ", b"x=", b"\x00\x01\xff"):
                        hits = self.searcher.find(around + needle + around)
                        found = {(hit.address, hit.form): hit.at for hit in hits}
                        self.assertEqual(found.get((address, form.name)), len(around), form)

    def test_a_needle_across_two_chunks_is_found_once(self):
        for cut in range(len(V4) + 1):
            content = b"." * ((1 << 22) - cut) + V4.encode() + b"." * 100
            found = [hit.at for hit in self.searcher.find(content) if hit.form == "dotted"]
            self.assertEqual(found, [(1 << 22) - cut])

    def test_digits_across_two_chunks_are_no_address_either(self):
        for cut in (0, 1, 10, 11, 127, 128, 129, 139):
            content = b"." * ((1 << 22) - cut) + b"13413217703" + b"." * 200
            self.assertEqual(self.searcher.find(content), [])

    def test_digits_within_longer_ones_are_no_address(self):
        for text in (
            b"13413217703",
            b"34132177030",
            b"0cb7191a7",
            b"cb7191a7f",
            b"0x7f3413217703",
            b"cb7191a7-1b2c-4abc-8def-0123456789ab",
            b"203.113.146.167",
        ):
            self.assertEqual(self.searcher.find(b"x " + text + b" y"), [], text)


if __name__ == "__main__":
    unittest.main()
