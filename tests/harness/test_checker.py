"""The checker itself, with faults planted: python3 -m tests.harness.test_checker"""

import random
import unittest

from tests.harness.checker import Tally, is_bad, origin, session_id

RUN = 7
SENT = {0: 500, 1: 400}


def expected(partition, sequence):
    return {"city_name": f"{partition}-{sequence % 3}"}


def outcomes():
    """What a sound relay does: (kind, partition, sequence), interleaved over partitions but in order within each."""
    rows = [(p, s) for p, count in SENT.items() for s in range(count)]
    rows.sort(key=lambda row: (row[1], row[0]))
    return [("dead" if is_bad(p, s) else "written", p, s) for p, s in rows]


def verdict(rows, change=lambda fields: fields):
    tally = Tally(RUN, expected)
    for offset, (kind, p, s) in enumerate(rows):
        if kind == "dead":
            tally.dead(p, s, ("dead", 0, offset))
        else:
            fields = {"session_id": session_id(RUN, p, s), **expected(p, s)}
            tally.written(change(fields), ("out", s % 2, offset))
    return tally.verdict(SENT)


class Planted(unittest.TestCase):
    def test_sound(self):
        found = verdict(outcomes())
        self.assertTrue(found.sound, found)
        self.assertEqual((found.inputs, found.written + found.dead), (900, 900))

    def test_session_ids_tell_their_origin(self):
        for _ in range(1000):
            where = random.getrandbits(32), random.getrandbits(24), random.getrandbits(40)
            self.assertEqual(origin(session_id(*where)), where)
        self.assertIsNone(origin("not a uuid"))
        self.assertIsNone(origin("00000000-0000-0000-0000-000000000000"))

    def test_each_lost_record_is_counted(self):
        rows = outcomes()
        for kind in ("written", "dead"):
            for place in (rows.index(next(r for r in rows if r[0] == kind)), len(rows) - 1):
                found = verdict(rows[:place] + rows[place + 1 :])
                self.assertEqual((found.lost, found.doubled, found.sound), (1, 0, False))

    def test_each_doubled_record_is_counted(self):
        rows = outcomes()
        for kind in ("written", "dead"):
            found = verdict(rows + [next(r for r in rows if r[0] == kind)])
            self.assertEqual((found.lost, found.doubled, found.sound), (0, 1, False))

    def test_what_must_be_filtered_is_not_lost_and_may_not_come_out(self):
        def found(rows):
            tally = Tally(RUN, lambda _partition, _sequence: {}, lambda *_: False, lambda _partition, sequence: sequence % 3 == 0)
            for p, s in rows:
                tally.written({"session_id": session_id(RUN, p, s)}, ("out", s % 2, s))
            return tally.verdict(SENT)

        kept = [(p, s) for p, count in SENT.items() for s in range(count) if s % 3]
        sound = found(kept)
        self.assertTrue(sound.sound, sound)
        self.assertEqual((sound.inputs, sound.written, sound.filtered), (900, len(kept), 900 - len(kept)))
        self.assertEqual((found(kept[1:]).lost, found(kept[1:]).sound), (1, False))
        self.assertEqual((found([(0, 3), *kept]).wrong, found([(0, 3), *kept]).sound), (1, False))

    def test_one_lost_and_one_doubled_do_not_make_up_for_each_other(self):
        rows = outcomes()
        rows[10] = rows[11]
        found = verdict(rows)
        self.assertEqual((found.lost, found.doubled), (1, 1))
        self.assertEqual(found.inputs, found.written + found.dead)
        self.assertFalse(found.sound)

    def test_disorder(self):
        rows = outcomes()
        first = next(i for i, r in enumerate(rows) if r[0] == "written")
        second = next(
            i
            for i, r in enumerate(rows)
            if i > first and r[0] == "written" and r[1] == rows[first][1] and (r[2] - rows[first][2]) % 2 == 0
        )
        rows[first], rows[second] = rows[second], rows[first]
        found = verdict(rows)
        self.assertGreaterEqual(found.disordered, 1)
        self.assertEqual((found.lost, found.doubled), (0, 0))

    def test_wrong_content(self):
        found = verdict(outcomes(), lambda fields: {**fields, "city_name": "Atlantis"})
        self.assertEqual(found.wrong, found.written)
        other_run = {"session_id": session_id(RUN + 1, 0, 0)}
        self.assertFalse(verdict(outcomes(), lambda fields: fields | other_run).sound)

    def test_a_sound_record_must_not_be_dead_nor_a_bad_one_written(self):
        rows = outcomes()
        rows[3] = ("dead" if rows[3][0] == "written" else "written", *rows[3][1:])
        self.assertEqual(verdict(rows).wrong, 1)

    def test_what_was_never_sent_is_wrong(self):
        self.assertGreaterEqual(verdict(outcomes() + [("written", 0, 5000), ("written", 2, 1)]).wrong, 2)


if __name__ == "__main__":
    unittest.main()
