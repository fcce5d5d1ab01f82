//! A button press as the relay sees it between decoding and encoding.
//!
//! The visitor's address is the one thing here that must never leave memory. It has a type of its own, [`ClientIp`],
//! which can be neither printed nor copied nor serialised, and it sits beside what is written, never inside it:
//! [`Press::split`] parts the two, and the encoder takes only the [`PressBody`].

use uuid::Uuid;

pub use crate::place::ClientIp;

/// Most actions that an allow list may hold.
pub const MAX_ACTIONS: usize = 64;
/// Longest name of an action, in characters (all of them ASCII).
pub const MAX_ACTION_LENGTH: usize = 64;

/// A session's UUID as 36 bytes of lower-case hyphenated text, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 36]);

impl SessionId {
    /// Reads the 36-character hyphenated form in any case (RFC 9562); `None` for every other form, such as the one
    /// without hyphens, in braces or with `urn:uuid:` in front.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes: [u8; 36] = text.as_bytes().try_into().ok()?;
        let mut legal = true;
        // Without a way out inside, so that the compiler works on many bytes at once.
        for (at, byte) in bytes.iter_mut().enumerate() {
            let is_hyphen = *byte == b'-';
            let is_hex = byte.is_ascii_hexdigit();
            legal &= if matches!(at, 8 | 13 | 18 | 23) { is_hyphen } else { is_hex };
            *byte = byte.to_ascii_lowercase();
        }
        legal.then_some(Self(bytes))
    }

    /// The text of a UUID.
    pub fn from_uuid(uuid: Uuid) -> Self {
        let mut text = [0; 36];
        uuid.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// The text as bytes: ASCII, lower case, hyphenated.
    pub fn as_bytes(&self) -> &[u8; 36] {
        &self.0
    }

    /// The text: lower case, hyphenated.
    pub fn as_str(&self) -> &str {
        // Always ASCII by construction; the empty text is unreachable and better than a panic.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// One validated press, with the address it came from.
pub struct Press {
    /// What may be written.
    pub body: PressBody,
    /// What the place is looked up by; `None` where the record has none.
    pub ip: Option<ClientIp>,
    /// How many fields the record held beyond the five known ones (for a counter; their content is dropped).
    pub unknown_fields: u32,
}

impl Press {
    /// Parts the address from everything that may be written.
    pub fn split(self) -> (Option<ClientIp>, PressBody) {
        (self.ip, self.body)
    }
}

/// What a press says, apart from where it came from: the only input of the encoder beside the place. It has no field
/// that could hold an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressBody {
    /// The visitor's session; the key of the record.
    pub session_id: SessionId,
    /// When it happened, microseconds since 1970-01-01T00:00:00Z; between 2000 and a day ahead of now.
    pub timestamp_us: i64,
    /// Group of an experiment; `None` marks generated data. 16 bits, so that no IPv4 address fits in.
    pub cohort: Option<i16>,
    /// What the visitor did.
    pub action: Action,
}

/// An action: its index into the pipeline's allow list, [`Actions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action(pub(crate) u16);

/// The allow list of actions of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    names: Vec<String>,
}

/// Why a list of actions is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActionsError {
    /// No name at all.
    #[error("the list of actions is empty: name at least one, such as \"PressButton\"")]
    Empty,
    /// More names than [`MAX_ACTIONS`].
    #[error("{0} actions are listed, at most {MAX_ACTIONS} are allowed: list only those that readers tell apart")]
    TooMany(usize),
    /// A name that is empty, too long or holds other characters.
    #[error("action {0} of the list is not 1 to {MAX_ACTION_LENGTH} letters, digits or underscores: rename it")]
    BadName(usize),
    /// The same name twice.
    #[error("action \"{0}\" is listed twice: remove one")]
    Duplicate(String),
}

impl Actions {
    /// Takes 1 to [`MAX_ACTIONS`] different names, each 1 to [`MAX_ACTION_LENGTH`] of `A-Z a-z 0-9 _`.
    ///
    /// # Errors
    /// Names the first thing that is wrong; positions count from 1.
    pub fn new(names: Vec<String>) -> Result<Self, ActionsError> {
        if names.is_empty() {
            return Err(ActionsError::Empty);
        }
        if names.len() > MAX_ACTIONS {
            return Err(ActionsError::TooMany(names.len()));
        }
        for (index, name) in names.iter().enumerate() {
            let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !legal || name.is_empty() || name.len() > MAX_ACTION_LENGTH {
                return Err(ActionsError::BadName(index + 1));
            }
            if names[..index].contains(name) {
                return Err(ActionsError::Duplicate(name.clone()));
            }
        }
        Ok(Self { names })
    }

    /// The action of that name, case included; `None` where it is not on the list.
    pub fn index_of(&self, name: &str) -> Option<Action> {
        // At most 64 names, mostly two or three: scanning beats hashing.
        self.names.iter().position(|known| known == name).and_then(|index| u16::try_from(index).ok()).map(Action)
    }

    /// The name of an action of this list; empty for one of another list.
    pub fn name(&self, action: Action) -> &str {
        self.names.get(usize::from(action.0)).map_or("", String::as_str)
    }

    /// All names, in the list's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn actions(names: &[&str]) -> Result<Actions, ActionsError> {
        Actions::new(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn session_ids_are_lower_cased_and_only_the_hyphenated_form_is_read() {
        let id = SessionId::parse("C0FFEE00-ABCD-4abc-8DEF-0123456789aB").unwrap();
        assert_eq!(id.as_str(), "c0ffee00-abcd-4abc-8def-0123456789ab");
        assert_eq!(id.as_bytes(), b"c0ffee00-abcd-4abc-8def-0123456789ab");
        for wrong in [
            "",
            "c0ffee00abcd4abc8def0123456789ab",
            "{c0ffee00-abcd-4abc-8def-0123456789ab}",
            "urn:uuid:c0ffee00-abcd-4abc-8def-0123456789ab",
            "c0ffee00-abcd-4abc-8def-0123456789ag",
            "c0ffee0-0abcd-4abc-8def-0123456789ab",
            "c0ffee00-abcd-4abc-8def-0123456789a\u{e9}",
            " c0ffee00-abcd-4abc-8def-0123456789a",
        ] {
            assert_eq!(SessionId::parse(wrong), None, "{wrong}");
        }
    }

    /// What [`SessionId::parse`] is held to.
    fn by_the_uuid_crate(text: &str) -> Option<SessionId> {
        Uuid::try_parse(text).ok().filter(|_| text.len() == 36).map(SessionId::from_uuid)
    }

    #[test]
    fn every_character_at_every_position_is_read_as_the_uuid_crate_does() {
        for good in ["c0ffee00-abcd-4abc-8def-0123456789ab", "C0FFEE00-ABCD-4ABC-8DEF-0123456789AB"] {
            let mut legal = 0;
            for at in 0..36 {
                // One byte in place of one, and characters of two and three bytes in place of as many.
                for character in (0..=0x7f_u8).map(char::from).chain(['\u{e9}', '\u{661}', '\u{ff11}']) {
                    let Some(end) = Some(at + character.len_utf8()).filter(|end| *end <= 36) else { continue };
                    let text = format!("{}{character}{}", &good[..at], &good[end..]);
                    legal += usize::from(SessionId::parse(&text).is_some());
                    assert_eq!(SessionId::parse(&text), by_the_uuid_crate(&text), "{text:?}");
                }
            }
            assert_eq!(legal, 32 * 22 + 4);
        }
    }

    proptest! {
        #[test]
        fn session_ids_are_read_as_the_uuid_crate_does(
            bits: u128,
            text in prop_oneof!["[0-9a-fA-F-]{30,40}", "[0-9a-fg]{8}(-[0-9A-F]{4}){3}-[0-9a-fA-F:]{12}", any::<String>()]
        ) {
            let uuid = Uuid::from_u128(bits);
            prop_assert_eq!(SessionId::parse(&uuid.to_string().to_uppercase()), Some(SessionId::from_uuid(uuid)));
            prop_assert_eq!(SessionId::parse(&text), by_the_uuid_crate(&text));
            let simple = format!("{{{}}}", uuid.simple());
            prop_assert_eq!(SessionId::parse(&simple), None);
        }
    }

    #[test]
    fn actions_are_found_by_exact_name() {
        let actions = actions(&["EnterPage", "PressButton"]).unwrap();
        let action = actions.index_of("PressButton").unwrap();
        assert_eq!(actions.name(action), "PressButton");
        assert_eq!(actions.index_of("pressbutton"), None);
        assert_eq!(actions.index_of(""), None);
        assert_eq!(actions.name(Action(7)), "");
    }

    #[test]
    fn a_bad_list_of_actions_is_refused_in_words() {
        let message = |names: &[&str]| actions(names).unwrap_err().to_string();
        assert_eq!(message(&[]), "the list of actions is empty: name at least one, such as \"PressButton\"");
        assert_eq!(message(&["A", "B", "A"]), "action \"A\" is listed twice: remove one");
        for bad in ["", "Press Button", "Pr\u{e9}ss", &"x".repeat(65)] {
            assert_eq!(
                message(&["A", bad]),
                "action 2 of the list is not 1 to 64 letters, digits or underscores: rename it"
            );
        }
        let many: Vec<String> = (0..65).map(|n| format!("A{n}")).collect();
        assert!(Actions::new(many[..64].to_vec()).is_ok());
        let message = Actions::new(many).unwrap_err().to_string();
        assert_eq!(message, "65 actions are listed, at most 64 are allowed: list only those that readers tell apart");
    }
}
