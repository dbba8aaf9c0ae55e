//! Whether a version at hand may be served as it is: a pure function of facts, never a stored
//! state.

use std::time::Duration;

use crate::lifetime::Use;
use crate::source::Revalidate;

/// An open this soon after a version landed is a hit, whatever the window: the kernel retries an
/// open that was answered with ESTALE once, and that retry must not move on again.
pub const JUST_LANDED: Duration = Duration::from_secs(1);

/// What is known of a version at the moment of an open.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The name is still bound to the source the version came from.
    pub same_source: bool,
    /// The source declares a digest that the version was not seen to match.
    pub digest_unchecked: bool,
    /// The store may have lost bytes since the version was committed (no clean stop, other boot).
    pub untrusted: bool,
    /// The source's freshness policy.
    pub policy: Revalidate,
    /// Time since an answer came that opens may share, in this process.
    pub answered: Option<Duration>,
    /// Time since the origin last vouched for it; `None` if unknown or the clock jumped.
    pub validated: Option<Duration>,
    /// What its origin allows at this moment; of no account unless the policy is to follow that.
    pub http: Use,
    /// Time since it landed in this process, if it did.
    pub landed: Option<Duration>,
    /// The revalidate window.
    pub window: Duration,
}

/// What an open must do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fresh,
    /// Serve it, and ask the origin behind that whether it is still the current one.
    Behind,
    /// Ask the origin whether it is still the current one.
    Revalidate,
    /// Compare the bytes on disk with checksums and digest.
    Verify,
    /// Fetch: the version belongs to another source.
    Replace,
}

/// Judges a version.
pub fn judge(facts: Facts) -> Verdict {
    if facts.untrusted || facts.digest_unchecked {
        return Verdict::Verify;
    }
    if !facts.same_source {
        return Verdict::Replace;
    }
    let within = |age: Option<Duration>, limit: Duration| age.is_some_and(|age| age < limit);
    let fresh = within(facts.landed, JUST_LANDED)
        || within(facts.answered, facts.window)
        || match facts.policy {
            Revalidate::Always => false,
            Revalidate::Never => true,
            Revalidate::Http => facts.http == Use::Fresh,
            Revalidate::After(limit) => within(facts.validated, limit),
        };
    match (fresh, facts.policy, facts.http) {
        (true, ..) => Verdict::Fresh,
        (false, Revalidate::Http, Use::StaleWhileRevalidate) => Verdict::Behind,
        _ => Verdict::Revalidate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        same_source: true,
        digest_unchecked: false,
        untrusted: false,
        policy: Revalidate::Always,
        answered: Some(Duration::from_secs(5)),
        validated: Some(Duration::from_secs(5)),
        http: Use::Fresh,
        landed: None,
        window: Duration::from_secs(1),
    };

    #[test]
    fn opens_within_the_window_share_one_answer() {
        let age = |ms| Facts { answered: Some(Duration::from_millis(ms)), ..FACTS };
        assert_eq!(judge(age(999)), Verdict::Fresh);
        assert_eq!(judge(age(1000)), Verdict::Revalidate);
        assert_eq!(judge(Facts { window: Duration::ZERO, ..age(0) }), Verdict::Revalidate);
        // The first open after a restart asks, however recently a predecessor did.
        let restarted = Facts { answered: None, validated: Some(Duration::ZERO), ..FACTS };
        assert_eq!(judge(restarted), Verdict::Revalidate);
    }

    #[test]
    fn what_just_landed_is_a_hit_whatever_the_window() {
        let landed = Some(Duration::from_millis(900));
        let facts = Facts { landed, window: Duration::ZERO, ..FACTS };
        assert_eq!(judge(facts), Verdict::Fresh);
        let landed = Some(Duration::from_millis(1000));
        assert_eq!(judge(Facts { landed, ..facts }), Verdict::Revalidate);
    }

    #[test]
    fn policies_count_from_the_last_validation() {
        let never = Facts { policy: Revalidate::Never, validated: None, ..FACTS };
        assert_eq!(judge(never), Verdict::Fresh);
        let after = |s| Facts { policy: Revalidate::After(Duration::from_secs(s)), ..FACTS };
        assert_eq!(judge(after(6)), Verdict::Fresh);
        assert_eq!(judge(after(5)), Verdict::Revalidate);
        assert_eq!(judge(Facts { validated: None, ..after(6) }), Verdict::Revalidate);
    }

    #[test]
    fn an_origin_is_followed_only_where_the_policy_says_so() {
        let facts = |policy, http| judge(Facts { policy, http, ..FACTS });
        assert_eq!(facts(Revalidate::Http, Use::Fresh), Verdict::Fresh);
        assert_eq!(facts(Revalidate::Http, Use::StaleWhileRevalidate), Verdict::Behind);
        assert_eq!(facts(Revalidate::Http, Use::Stale), Verdict::Revalidate);
        for http in [Use::Fresh, Use::StaleWhileRevalidate, Use::Stale] {
            assert_eq!(facts(Revalidate::Always, http), Verdict::Revalidate);
            assert_eq!(facts(Revalidate::Never, http), Verdict::Fresh);
        }
        // One answer serves all who open within the window, whatever it allows.
        let just_answered = Facts { answered: Some(Duration::ZERO), ..FACTS };
        let http = Facts { policy: Revalidate::Http, http: Use::Stale, ..just_answered };
        assert_eq!(judge(http), Verdict::Fresh);
    }

    #[test]
    fn bytes_in_doubt_are_checked_before_anything_else() {
        let landed = Some(Duration::ZERO);
        for facts in [
            Facts { untrusted: true, landed, ..FACTS },
            Facts { digest_unchecked: true, landed, ..FACTS },
            Facts { digest_unchecked: true, same_source: false, ..FACTS },
        ] {
            assert_eq!(judge(facts), Verdict::Verify);
        }
        assert_eq!(judge(Facts { same_source: false, landed, ..FACTS }), Verdict::Replace);
    }
}
