"""The answers in plain Python, from the events alone: nothing of the SQL is in it. Each function is named after its view."""

import math
from collections import Counter, defaultdict
from datetime import date, timedelta
from functools import wraps
from statistics import mean, stdev
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tests.questions.events import BUILDS

WEEK, PAUSE = timedelta(days=7), timedelta(minutes=30)
Z = 1.96


def _once(answer):
    """Several answers build on it: it is worked out once for the same events."""
    known = {}

    @wraps(answer)
    def of(events):
        if id(events) not in known:
            known[id(events)] = answer(events)
        return known[id(events)]

    return of


def _pressed(events):
    return [event for event in events if event["action"] == "PressButton"]


def _groups(items, key):
    found = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def _generated(event):
    return event["cohort"] is None


@_once
def _by_session(events):
    """(generated, session id) → its events in order of time."""
    groups = _groups(events, lambda event: (_generated(event), event["session_id"]))
    return {key: sorted(found, key=lambda event: event["timestamp"]) for key, found in groups.items()}


def _at(moment):
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _day(moment):
    return moment.date().isoformat()


def _quantile(values, share):
    """Between the two nearest."""
    values = sorted(values)
    place = (len(values) - 1) * share
    low, high = values[math.floor(place)], values[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


@_once
def press_visits(events):
    rows = []
    for (generated, session), found in _by_session(events).items():
        visits = [[found[0]]]
        for before, event in zip(found, found[1:]):
            if event["timestamp"] - before["timestamp"] > PAUSE:
                visits.append([])
            visits[-1].append(event)
        for number, visit in enumerate(visits, 1):
            presses = _pressed(visit)
            seconds = (presses[-1]["timestamp"] - presses[0]["timestamp"]).total_seconds() if presses else None
            rows.append({
                "generated": generated, "cohort": visit[0]["cohort"], "session_id": session, "visit": number,
                "began_at": _at(visit[0]["timestamp"]), "ended_at": _at(visit[-1]["timestamp"]), "events": len(visit),
                "presses": len(presses), "pressing_seconds": seconds, "country_code": visit[0]["country_code"],
            })  # fmt: skip
    return rows


@_once
def press_sessions(events):
    visits = _groups(press_visits(events), lambda visit: (visit["generated"], visit["session_id"]))
    rows = []
    for (generated, session), found in _by_session(events).items():
        seconds = [visit["pressing_seconds"] for visit in visits[generated, session] if visit["presses"]]
        place = {name: found[0][name] for name in ("country_code", "country_name", "subdivision_name", "city_name")}
        rows.append({
            "generated": generated, "cohort": found[0]["cohort"], "session_id": session,
            "first_at": _at(found[0]["timestamp"]), "last_at": _at(found[-1]["timestamp"]),
            "visits": len(visits[generated, session]), "events": len(found), "presses": len(_pressed(found)),
            "pressing_seconds": sum(seconds) if seconds else None, **place,
        })  # fmt: skip
    return rows


def presses_per_session(events):
    rows = []
    visits = _groups(press_visits(events), lambda visit: visit["generated"])
    for generated, sessions in _groups(press_sessions(events), lambda session: session["generated"]).items():
        presses = [session["presses"] for session in sessions]
        seconds = [visit["pressing_seconds"] for visit in visits[generated] if visit["presses"]]
        some = sum(1 for count in presses if count)
        rows.append({
            "generated": generated, "sessions": len(sessions), "visits": len(visits[generated]), "sessions_with_a_press": some,
            "share_with_a_press": some / len(sessions), "presses": sum(presses), "presses_mean": mean(presses),
            "presses_median": _quantile(presses, 0.5), "presses_p90": _quantile(presses, 0.9), "presses_most": max(presses),
            "seconds_mean": mean(seconds), "seconds_median": _quantile(seconds, 0.5), "seconds_p90": _quantile(seconds, 0.9),
        })  # fmt: skip
    return rows


def sessions_by_presses(events):
    counts = Counter((session["generated"], session["presses"]) for session in press_sessions(events))
    return [{"generated": generated, "presses": presses, "sessions": n} for (generated, presses), n in counts.items()]


def _of_place(found):
    presses = _pressed(found)
    sessions = {event["session_id"] for event in found}
    return {
        "country_name": min(event["country_name"] for event in found), "sessions": len(sessions),
        "sessions_with_a_press": len({event["session_id"] for event in presses}), "presses": len(presses),
        "presses_per_session": len(presses) / len(sessions),
    }  # fmt: skip


def presses_by_country(events):
    total = Counter(map(_generated, _pressed(events)))
    groups = _groups(events, lambda event: (_generated(event), event["country_code"]))
    rows = [{"generated": generated, "country_code": code} | _of_place(found) for (generated, code), found in groups.items()]
    return [row | {"share_of_presses": row["presses"] / total[row["generated"]]} for row in rows]


def presses_by_region(events):
    groups = _groups(events, lambda event: (_generated(event), event["country_code"], event["subdivision_name"]))
    return [
        {"generated": generated, "country_code": code, "subdivision_name": name,
         "subdivision_code": min(event["subdivision_code"] for event in found)} | _of_place(found)
        for (generated, code, name), found in groups.items()
    ]  # fmt: skip


def _local(event):
    """(clock, hour)"""
    try:
        if event["time_zone"]:
            return "time zone", event["timestamp"].astimezone(ZoneInfo(event["time_zone"])).hour
    except ZoneInfoNotFoundError:
        pass
    if event["longitude"] is None:
        return "unknown", None
    return "longitude", (event["timestamp"] + timedelta(hours=event["longitude"] / 15)).hour


def presses_by_local_hour(events):
    groups = _groups(events, lambda event: (_generated(event), event["country_code"], *_local(event)))
    return [
        {"generated": generated, "country_code": code, "country_name": min(event["country_name"] for event in found),
         "local_hour": hour, "clock": clock, "events": len(found), "presses": len(_pressed(found)),
         "sessions": len({event["session_id"] for event in found})}
        for (generated, code, clock, hour), found in groups.items()
    ]  # fmt: skip


def _kilometres(north, east, other_north, other_east):
    """By the angle between two points on a ball, through their chord."""

    def point(north, east):
        north, east = math.radians(north), math.radians(east)
        return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)

    return 2 * 6371 * math.asin(min(1, math.dist(point(north, east), point(other_north, other_east)) / 2))


@_once
def first_presses(events):
    presses = sorted(_pressed(events), key=lambda event: event["timestamp"])
    seen, origins, rows = set(), {}, []
    for event in presses:
        known = event["country_code"] != "--"
        if known and event["latitude"] is not None:
            origins.setdefault(_generated(event), event)
    for event in presses:
        names = (event["country_code"], event["subdivision_name"], event["city_name"])
        levels = {"country": (names[0], "", ""), "subdivision": (*names[:2], ""), "city": names}
        for level, place in levels.items():
            deepest = {"country": 0, "subdivision": 1, "city": 2}[level]
            key = (_generated(event), level, place)
            if key in seen or place[deepest] in ("", "--") or place[0] == "--":
                continue
            seen.add(key)
            origin = origins[key[0]]
            located = event["latitude"] is not None
            rows.append({
                "generated": key[0], "level": level, "country_code": place[0], "country_name": event["country_name"],
                "subdivision_name": place[1], "city_name": place[2], "latitude": event["latitude"],
                "longitude": event["longitude"], "first_at": _at(event["timestamp"]),
                "days_after_first": (event["timestamp"] - origin["timestamp"]).total_seconds() / 86400,
                "distance_km": _kilometres(event["latitude"], event["longitude"], origin["latitude"], origin["longitude"])
                if located else None,
            })  # fmt: skip
    return rows


def presses_by_day_and_place(events):
    names = ("country_code", "subdivision_name", "city_name")
    groups = _groups(events, lambda event: (_generated(event), _day(event["timestamp"]), *(event[name] for name in names)))
    rows = []
    for (generated, day, *place), found in groups.items():
        located = [event for event in found if event["latitude"] is not None]
        middle = [mean(event[axis] for event in located) if located else None for axis in ("latitude", "longitude")]
        rows.append({
            "generated": generated, "day": day, **dict(zip(names, place)), "latitude": middle[0], "longitude": middle[1],
            "country_name": min(event["country_name"] for event in found), "presses": len(_pressed(found)),
            "sessions": len({event["session_id"] for event in found}),
        })  # fmt: skip
    return rows


@_once
def use_by_day(events):
    new_sessions = Counter((row["generated"], row["first_at"][:10]) for row in press_sessions(events))
    new_places = Counter((row["generated"], row["level"], row["first_at"][:10]) for row in first_presses(events))
    rows, so_far = [], Counter()
    groups = _groups(events, lambda event: (_generated(event), _day(event["timestamp"])))
    for (generated, day), found in sorted(groups.items()):
        countries, cities = (new_places[generated, level, day] for level in ("country", "city"))
        so_far[generated, "country"] += countries
        so_far[generated, "city"] += cities
        rows.append({
            "generated": generated, "day": day, "sessions": len({event["session_id"] for event in found}),
            "new_sessions": new_sessions[generated, day], "presses": len(_pressed(found)), "new_countries": countries,
            "new_cities": cities, "countries_so_far": so_far[generated, "country"], "cities_so_far": so_far[generated, "city"],
        })  # fmt: skip
    return rows


def _line(points):
    """Slope and r² of the line through (x, y, weight), from means and deviations."""
    weight = sum(w for _, _, w in points)
    middle_x, middle_y = (sum(point[i] * point[2] for point in points) / weight for i in (0, 1))
    xx = sum(w * (x - middle_x) ** 2 for x, _, w in points)
    xy = sum(w * (x - middle_x) * (y - middle_y) for x, y, w in points)
    yy = sum(w * (y - middle_y) ** 2 for _, y, w in points)
    return (xy / xx, xy**2 / xx / yy) if xx and yy else (0, None)


def doubling_time(events):
    rows = []
    for generated, days in _groups(use_by_day(events), lambda row: row["generated"]).items():
        for measure, column in (("presses", "presses"), ("sessions", "sessions"), ("new sessions", "new_sessions")):
            most = max(row[column] for row in days)
            peak = min(row["day"] for row in days if row[column] == most)
            used = [row for row in days if row["day"] <= peak and row[column]]
            number = {row["day"]: _days_since(used[0]["day"], row["day"]) for row in used}
            slope, square = _line([(number[row["day"]], math.log2(row[column]), row[column]) for row in used])
            rows.append({
                "generated": generated, "measure": measure, "from_day": used[0]["day"], "to_day": peak, "days": len(used),
                "doubling_days": 1 / slope if slope > 0 else None, "r_squared": square,
            })  # fmt: skip
    return rows


def _days_since(first, day):
    return (date.fromisoformat(day) - date.fromisoformat(first)).days


def _ends(events):
    """The last event of each kind of data."""
    return {generated: max(event["timestamp"] for event in found) for generated, found in _groups(events, _generated).items()}


@_once
def active_weeks(events):
    ends, rows = _ends(events), []
    for (generated, session), found in _by_session(events).items():
        first = found[0]["timestamp"]
        for week, active in _groups(found, lambda event: (event["timestamp"] - first) // WEEK).items():
            rows.append({
                "generated": generated, "session_id": session, "first_at": _at(first), "week": week,
                "presses": len(_pressed(active)), "complete": first + (week + 1) * WEEK <= ends[generated],
            })  # fmt: skip
    return rows


@_once
def boredom_by_week(events):
    ends, old_enough = _ends(events), Counter()
    for (generated, _), found in _by_session(events).items():
        old_enough.update((generated, week) for week in range((ends[generated] - found[0]["timestamp"]) // WEEK))
    active = _groups((row for row in active_weeks(events) if row["complete"]), lambda row: (row["generated"], row["week"]))
    rows = []
    for (generated, week), sessions in old_enough.items():
        found = active.get((generated, week), [])
        presses = sum(row["presses"] for row in found)
        rows.append({
            "generated": generated, "week": week, "sessions": sessions, "active": len(found),
            "retention": len(found) / sessions, "presses": presses,
            "presses_per_active_session": presses / len(found) if found else None, "presses_per_session": presses / sessions,
        })  # fmt: skip
    return rows


def retention_by_week(events):
    ends, rows = _ends(events), []
    weeks_of = _groups(active_weeks(events), lambda row: (row["generated"], row["session_id"]))
    sessions = _by_session(events)

    def monday(key):
        first = sessions[key][0]["timestamp"]
        return (first - timedelta(days=first.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)

    for (generated, first_week), keys in _groups(sessions, lambda key: (key[0], monday(key))).items():
        for week in range((ends[generated] - first_week) // WEEK + 1):
            found = [row for key in keys for row in weeks_of[key] if row["week"] == week]
            presses = sum(row["presses"] for row in found)
            rows.append({
                "generated": generated, "first_week": _day(first_week), "week": week, "sessions": len(keys),
                "active": len(found), "retention": len(found) / len(keys), "presses": presses,
                "presses_per_active_session": presses / len(found) if found else None,
                "complete": first_week + (week + 2) * WEEK <= ends[generated],
            })  # fmt: skip
    return rows


def boredom_half_life(events):
    rows = []
    for generated, weeks in _groups(boredom_by_week(events), lambda row: row["generated"]).items():
        used = [row for row in weeks if row["week"] >= 1 and row["presses"]]
        slope, square = _line([(row["week"], math.log2(row["presses_per_session"]), row["presses"]) for row in used])
        half_life = -7 / slope if slope < 0 else None
        rows.append({"generated": generated, "weeks": len(used), "half_life_days": half_life, "r_squared": square})
    return rows


@_once
def cohorts(events):
    rows = []
    for (generated, cohort), sessions in _groups(press_sessions(events), lambda row: (row["generated"], row["cohort"])).items():
        presses, n = [row["presses"] for row in sessions], len(sessions)
        middle, deviation = mean(presses), stdev(presses) if n > 1 else None
        error = Z * deviation / math.sqrt(n) if n > 1 else None
        share = sum(1 for count in presses if count) / n
        # Wilson: all p whose distance to the share is at most Z of their own standard deviations.
        root = math.sqrt((2 * n * share + Z**2) ** 2 - 4 * (n + Z**2) * n * share**2)
        low, high = ((2 * n * share + Z**2 + sign * root) / (2 * (n + Z**2)) for sign in (-1, 1))
        rows.append({
            "generated": generated, "cohort": cohort, "sessions": n, "presses": sum(presses), "presses_mean": middle,
            "presses_sd": deviation, "presses_low": middle - error if error is not None else None,
            "presses_high": middle + error if error is not None else None,
            "sessions_with_a_press": round(share * n), "share_with_a_press": share, "share_low": low, "share_high": high,
        })  # fmt: skip
    return rows


def cohort_comparisons(events):
    rows, of = [], [row for row in cohorts(events) if not row["generated"]]
    for one in of:
        for other in (row for row in of if row["cohort"] > one["cohort"]):
            both = (one, other)
            difference, ratio = other["presses_mean"] - one["presses_mean"], other["presses_mean"] / one["presses_mean"]
            row = {
                "generated": False, "cohort": one["cohort"], "other_cohort": other["cohort"], "sessions": one["sessions"],
                "other_sessions": other["sessions"], "difference": difference, "ratio": ratio,
                "difference_low": None, "difference_high": None, "ratio_low": None, "ratio_high": None, "differs": None,
            }  # fmt: skip
            if all(each["presses_sd"] is not None for each in both):
                error = Z * math.sqrt(sum(each["presses_sd"] ** 2 / each["sessions"] for each in both))
                relative = Z * math.sqrt(sum((each["presses_sd"] / each["presses_mean"]) ** 2 / each["sessions"] for each in both))
                row |= {"difference_low": difference - error, "difference_high": difference + error,
                        "ratio_low": math.exp(math.log(ratio) - relative), "ratio_high": math.exp(math.log(ratio) + relative),
                        "differs": not difference - error <= 0 <= difference + error}  # fmt: skip
            rows.append(row)
    return rows


def _build(event):
    return next((build for used_from, build in reversed(BUILDS) if used_from <= event["timestamp"]), None)


def place_reliability(events):
    rows = []
    for (generated, build), found in _groups(events, lambda event: (_generated(event), _build(event))).items():
        city = [event for event in found if event["city_name"]]
        region = [event for event in found if event["subdivision_name"] and not event["city_name"]]
        nothing = [event for event in found if event["country_code"] == "--"]
        country, n = len(found) - len(city) - len(region) - len(nothing), len(found)
        radii = [event["accuracy_km"] for event in found if event["accuracy_km"] is not None]
        rows.append({
            "generated": generated, "build": build, "events": n, "to_city": len(city), "to_subdivision": len(region),
            "to_country": country, "to_nothing": len(nothing), "share_city": len(city) / n,
            "share_subdivision": (len(city) + len(region)) / n, "share_country": (n - len(nothing)) / n,
            "share_coordinates": sum(event["latitude"] is not None for event in found) / n,
            "share_time_zone": sum(bool(event["time_zone"]) for event in found) / n,
            "accuracy_km_median": _quantile(radii, 0.5) if radii else None,
        })  # fmt: skip
    return rows


def generated_and_real(events):
    return [
        {"generated": generated, "kind": "generated" if generated else "real", "events": len(found),
         "presses": len(_pressed(found)), "sessions": len({event["session_id"] for event in found}),
         "cohorts": len({event["cohort"] for event in found} - {None}),
         "countries": len({event["country_code"] for event in found} - {"--"}),
         "first_at": _at(min(event["timestamp"] for event in found)), "last_at": _at(max(event["timestamp"] for event in found))}
        for generated, found in _groups(events, _generated).items()
    ]  # fmt: skip


VIEWS = [
    press_visits, press_sessions, presses_per_session, sessions_by_presses, presses_by_country, presses_by_region,
    presses_by_local_hour, first_presses, presses_by_day_and_place, use_by_day, doubling_time, active_weeks, boredom_by_week,
    retention_by_week, boredom_half_life, cohorts, cohort_comparisons, place_reliability, generated_and_real,
]  # fmt: skip
