//! The visitor's session: one cookie of our own, `ID.COHORT.COUNT`.
//!
//! It is not signed: a visitor who changes the count or the cohort falsifies one session of the experiment, and nothing else. The id is drawn
//! from the system's random numbers, so that nobody can guess another's.

use axum::http::{HeaderMap, header};
use uuid::Uuid;

use crate::config::web::CohortConfig;
use crate::pipeline::press::event::SessionId;

/// The cookie's name.
pub const COOKIE: &str = "pressline";
/// Where a visitor's count ends.
const MOST_PRESSES: u32 = 999_999_999;

/// One visitor's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Key of the records.
    pub id: SessionId,
    /// Number of its cohort.
    pub cohort: i16,
    /// Presses that were acknowledged.
    pub count: u32,
}

impl Session {
    /// A new one, in a cohort drawn among these.
    pub fn begin(cohorts: &[CohortConfig]) -> Self {
        let uuid = Uuid::new_v4();
        // The last bytes of a random UUID are all random.
        let [.., high, low] = *uuid.as_bytes();
        let drawn = usize::from(u16::from_be_bytes([high, low])) % cohorts.len().max(1);
        let cohort = cohorts.get(drawn).map_or(0, |cohort| cohort.number);
        Self { id: SessionId::from_uuid(uuid), cohort, count: 0 }
    }

    /// The session of a request; `None` without one, or with one that is not ours or of a cohort that is no more.
    pub fn of(headers: &HeaderMap, cohorts: &[CohortConfig]) -> Option<Self> {
        let pairs = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let value = pairs
            .flat_map(|line| line.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        let mut parts = value.split('.');
        let (id, cohort, count) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let session = Self { id: SessionId::parse(id)?, cohort: cohort.parse().ok()?, count: count.parse().ok()? };
        cohorts.iter().any(|cohort| cohort.number == session.cohort).then_some(session)
    }

    /// After one more press.
    pub fn pressed(self) -> Self {
        Self { count: self.count.saturating_add(1).min(MOST_PRESSES), ..self }
    }

    /// The text of `Set-Cookie`.
    pub fn cookie(&self, days: u32, secure: bool) -> String {
        let value = format!("{}.{}.{}", self.id.as_str(), self.cohort, self.count);
        set_cookie(&value, u64::from(days) * 86_400, secure)
    }
}

/// The text of `Set-Cookie` that ends a session.
pub fn forget(secure: bool) -> String {
    set_cookie("", 0, secure)
}

fn set_cookie(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::web::cohorts;

    fn of(cookie: &str) -> Option<Session> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        Session::of(&headers, &cohorts::own())
    }

    #[test]
    fn a_session_comes_back_as_it_was_sent() {
        let session = Session::begin(&cohorts::own()).pressed().pressed();
        assert_eq!(session.count, 2);
        let cookie = session.cookie(30, true);
        assert!(cookie.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(of(&format!("a=b; {pair}; c=d")), Some(session));
        assert!(!session.cookie(30, false).contains("Secure"));
    }

    #[test]
    fn what_is_no_session_of_ours_is_none() {
        let id = "c0ffee00-abcd-4abc-8def-0123456789ab";
        assert!(of(&format!("pressline={id}.1.7")).is_some());
        for wrong in
            ["", "1.7", &format!("{id}.1"), &format!("{id}.9.7"), &format!("{id}.1.-7"), &format!("{id}.1.7.8")]
        {
            assert_eq!(of(&format!("pressline={wrong}")), None, "{wrong}");
        }
        assert_eq!(of(&format!("xpressline={id}.1.7")), None);
    }

    #[test]
    fn every_cohort_is_drawn() {
        let drawn: std::collections::BTreeSet<i16> = (0..200).map(|_| Session::begin(&cohorts::own()).cohort).collect();
        assert_eq!(drawn.len(), cohorts::own().len());
    }
}
