//! The status codes of the UCM's API, and what to do about each.
//!
//! Must know every code that counts a log-in as failed: those are never tried again by themselves.

use crate::sources::polling::Trouble;
use std::time::Duration;

/// Requests come too often.
pub(super) const TOO_OFTEN: [i64; 3] = [-45, -46, -57];

/// What a code means.
pub(super) enum Verdict {
    Good,
    /// Log in again, once.
    SessionEnded,
    Trouble(Trouble),
}

/// What to do about a code; `left` is how many log-ins the device still allows, where it says so.
pub(super) fn judge(code: i64, left: Option<u64>) -> Verdict {
    let message = words(code);
    Verdict::Trouble(match code {
        0 => return Verdict::Good,
        -5 | -6 | -8 => return Verdict::SessionEnded,
        -37 | -47 | -68 | -70 | -71 => Trouble::Refused { message, tries_left: left },
        -45 | -46 => Trouble::Passing { message, wait: Duration::from_secs(15) },
        -57 => Trouble::Passing { message, wait: Duration::from_mins(1) },
        -51 | -251 => Trouble::Passing { message, wait: Duration::from_secs(30) },
        -1 | -15 | -16 | -19 | -50 => Trouble::Person { message },
        _ => Trouble::Passing { message, wait: Duration::ZERO },
    })
}

/// A code in words, with what to do.
pub(super) fn words(code: i64) -> String {
    let meaning = match code {
        -1 => {
            "invalid parameters: this is no UCM, or its firmware is too old; update it, and see that HTTPS API Settings (New) is enabled"
        }
        -5 | -6 | -8 => "the session has ended; it logs in again",
        -7 => "it closed the connection; it is asked again",
        -15 | -16 | -19 | -50 => "it does not know this request; update its firmware",
        -37 => {
            "wrong user or password; correct it here or on the device's API page, nothing is tried until then"
        }
        -45 | -46 => "asked too often, or by others at the same time; it is asked again in 15 s",
        -47 => {
            "no permission: on its API page enable the API, give the user the action cdrapi, and let this host's address in; \
             then run `cdrd sync`"
        }
        -51 | -251 => "it is busy with another task; it is asked again in 30 s",
        -57 => "asked too often; it is asked again in 60 s",
        -68 | -70 => {
            "log-ins from this host are locked out; correct the password, free this host on the device's log-in blacklist, \
             then run `cdrd sync`"
        }
        -71 => "there is no such user; write the user of its API page into `user`",
        _ => "it could not do what it was asked for; it is asked again",
    };
    format!("the device says {code}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};
    use crate::sources::polling::Trouble;

    #[test]
    fn what_counts_a_log_in_as_failed_is_never_tried_again() {
        for code in [-37, -47, -68, -70, -71] {
            let verdict = judge(code, Some(2));
            let refused = matches!(verdict, Verdict::Trouble(Trouble::Refused { tries_left: Some(2), .. }));
            assert!(refused, "{code}");
        }
        for code in [-5, -6, -8] {
            assert!(matches!(judge(code, None), Verdict::SessionEnded), "{code}");
        }
        for (code, least) in [(-45, 15), (-46, 15), (-57, 60), (-9, 0), (-25, 0), (-999, 0)] {
            let Verdict::Trouble(Trouble::Passing { wait, .. }) = judge(code, None) else {
                panic!("{code} passes");
            };
            assert_eq!(wait.as_secs(), least, "{code}");
        }
        assert!(matches!(judge(0, None), Verdict::Good));
    }
}
