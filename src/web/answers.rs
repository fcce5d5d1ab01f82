//! What the page answers to a press.

use super::session::Session;

/// Counts that deserve a word of their own.
const ROUND: [(u32, &str); 9] = [
    (1, "Your first press. It is already on its way around the world."),
    (2, "Twice. The first one was not an accident, then."),
    (10, "Ten. You have a talent for this."),
    (25, "Twenty-five. A quarter of a hundred, for no reason at all."),
    (42, "Forty-two. So this was the question."),
    (50, "Fifty. We have told nobody."),
    (100, "One hundred! There is no prize, but you may tell people."),
    (256, "Two hundred and fifty-six. One byte is full."),
    (1_000, "A thousand presses. Please drink some water."),
];

const LINES: [&str; 36] = [
    "Pressed. Somewhere, a partition smiled.",
    "The button thanks you for your attention.",
    "That one was crisp.",
    "A textbook press. We may use it in the textbook.",
    "Noted, acknowledged, replicated.",
    "You pressed it. It stayed pressed for exactly as long as it should.",
    "Exactly once, as promised.",
    "The broker nods politely.",
    "An offset has been named after you. It is a number.",
    "Good press. Firm, but kind.",
    "The map has a new light, and it is yours.",
    "It does nothing else, you know. And yet.",
    "Science is grateful.",
    "Your finger is in good form today.",
    "That is one more than before.",
    "The button was hoping that you would do that.",
    "Nothing exploded. A success by any measure.",
    "A committee will look at this press. It will approve.",
    "You can stop any time. Of course you can.",
    "That press went further than most people do in a day.",
    "Somebody on the other side of the world saw a dot. Hello!",
    "The log is one line happier.",
    "It tickles.",
    "We counted twice, to be sure. It was one.",
    "Smooth. Have you done this before?",
    "Press received in mint condition.",
    "A fine addition to the topic.",
    "The consumer has been waiting for this one.",
    "Still a button. Still pressed.",
    "Elegant. Understated. A press.",
    "There are bigger buttons, but none more grateful.",
    "Your press is in safe hands, and on three replicas where there are three.",
    "No press is wasted here.",
    "We felt that.",
    "That was press-worthy. Sorry.",
    "Keep calm, and you know what.",
];

/// The line for the session's last press; `None` before the first. The same for the same press, so that a page that is
/// loaded again says the same.
pub fn line(session: &Session) -> Option<&'static str> {
    if session.count == 0 {
        return None;
    }
    if let Some((_, line)) = ROUND.iter().find(|(count, _)| *count == session.count) {
        return Some(line);
    }
    // Each session has an order of its own: it begins elsewhere and steps by what has no factor in common with 36.
    let [a, b, ..] = *session.id.as_bytes();
    let step = [5, 7, 11, 13].get(usize::from(b) % 4).copied().unwrap_or(5);
    let at = (usize::from(a) + step * session.count as usize) % LINES.len();
    LINES.get(at).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::web::cohorts;

    #[test]
    fn no_line_comes_twice_before_all_have_come() {
        let mut session = Session { count: 100, ..Session::begin(&cohorts::own()) };
        let mut seen = BTreeSet::new();
        for _ in 0..LINES.len() {
            session = session.pressed();
            seen.extend(line(&session));
        }
        assert_eq!(seen.len(), LINES.len());
        assert_eq!(line(&Session::begin(&cohorts::own())), None);
        assert_eq!(line(&Session { count: 42, ..session }), Some("Forty-two. So this was the question."));
    }
}
