//! BOUNDED, for pushes: one under way per host and process (but for hosts that were forgotten and are back), and no more of them than there is
//! memory for.

use crate::process::Commons;
use heddle_protocol::id::HostId;

/// Pushes that one process may have under way.
const UNDER_WAY_MAX: usize = 520;

/// Looks at a push that just began.
pub fn begun(commons: &Commons, host: &HostId, to_host: u32, in_all: usize) {
    if to_host > 1 && !commons.forgets {
        commons.break_rule(
            "one-push",
            format!("{to_host} pushes to {host} are under way at the same time"),
        );
    }
    if in_all > UNDER_WAY_MAX * 5 {
        commons.break_rule("bounded", format!("{in_all} pushes are under way at the same time"));
    }
}
