//! Where a place lies on the map's picture: Equal Earth, as `data/world/build.py` drew the countries.

/// The picture, with a shape for each country whose id is `c-` and its code.
pub const WORLD: &str = include_str!("assets/world.svg");

const WIDTH: f64 = 1000.0;
/// Height of the picture, which ends at 83.7 degrees north and 60 degrees south.
const HEIGHT: f64 = 442.235;
/// What lies above the picture.
const OFFSET: f64 = -241.1914;
/// Half of the width of the world, in radians of the equator.
const HALF: f64 = 2.7066299836960748;

/// Degrees to x and y; `None` where it is not on the picture, as in Antarctica.
pub fn project(latitude: f64, longitude: f64) -> Option<(f64, f64)> {
    if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
        return None;
    }
    let [a1, a2, a3, a4] = [1.340264, -0.081106, 0.000893, 0.003796];
    let root = 3f64.sqrt() / 2.0;
    let theta = (root * latitude.to_radians().sin()).asin();
    let t2 = theta * theta;
    let t6 = t2 * t2 * t2;
    let slope = 9.0 * a4 * t6 * t2 + 7.0 * a3 * t6 + 3.0 * a2 * t2 + a1;
    let x = longitude.to_radians() * theta.cos() / (root * slope);
    let y = theta * (a4 * t6 * t2 + a3 * t6 + a2 * t2 + a1);
    let scale = WIDTH / (2.0 * HALF);
    let (x, y) = (WIDTH / 2.0 + x * scale, -y * scale - OFFSET);
    (0.0..=HEIGHT).contains(&y).then_some((x, y))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Where the script drew a country's dot.
    fn dot(code: &str) -> (f64, f64) {
        let line = WORLD.lines().find(|line| line.starts_with(&format!("<circle id=\"c-{code}\""))).unwrap();
        let number = |name: &str| {
            let rest = line.split_once(&format!(" {name}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse::<f64>().unwrap()
        };
        (number("cx"), number("cy"))
    }

    #[test]
    fn points_lie_where_the_script_that_drew_the_map_puts_them() {
        // From its table BY_HAND.
        for (code, north, east) in
            [("BQ", 12.2, -68.3), ("SJ", 78.2, 16.0), ("TK", -9.2, -171.8), ("UM", 19.3, 166.6), ("YT", -12.8, 45.2)]
        {
            let (x, y) = project(north, east).unwrap();
            let (cx, cy) = dot(code);
            assert!((x - cx).abs() < 0.06 && (y - cy).abs() < 0.06, "{code}: {x} {y}, drawn at {cx} {cy}");
        }
        assert_eq!(project(-85.0, 0.0), None);
        assert_eq!(project(f64::NAN, 0.0), None);
        assert_eq!(project(0.0, 181.0), None);
    }

    #[test]
    fn the_map_is_small_and_has_dots_for_countries_without_an_outline() {
        assert!(WORLD.len() < 150_000);
        for code in ["SG", "MT", "HK", "MC", "VA"] {
            dot(code);
        }
        assert!(WORLD.contains("<path id=\"c-DE\"") && !WORLD.contains(" style="));
    }
}
