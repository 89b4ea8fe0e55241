//! How workloads fare.

use super::printable;
use super::table::{Cell, Style, Table, Tone};
use heddle_protocol::api::status::{Endpoint, FiredStatus, PlacedUnit, Statuses, WorkloadState, WorkloadStatus};
use heddle_protocol::host_report::UnitPhase;
use heddle_protocol::report::WaitingOn;
use std::collections::BTreeMap;

/// One line per workload.
pub fn table(statuses: &Statuses, style: Style) -> String {
    if statuses.workloads.is_empty() {
        return "no workloads\n".to_owned();
    }
    let mut table = Table::new(&["WORKLOAD", "GENERATION", "STATE", "READY", "HOSTS", "URL", "WHY"]);
    for status in &statuses.workloads {
        table.row([
            status.workload.to_string().into(),
            status.generation.to_string().into(),
            Cell::toned(status.state.as_str(), tone(status.state)),
            counts(status).into(),
            hosts(status).into(),
            urls(&status.endpoints).into(),
            printable(&why(status)).into(),
        ]);
    }
    table.render(style)
}

/// Everything about one workload.
pub fn describe(status: &WorkloadStatus, style: Style) -> String {
    let state = tone(status.state).paint(status.state.as_str(), style);
    let mut text = format!(
        "status:      {state}, {} ready at generation {}\n",
        counts(status),
        status.generation
    );
    for waiting in &status.waiting {
        text.push_str(&format!("waits:       {}\n", printable(&waiting.to_string())));
    }
    for endpoint in &status.endpoints {
        text.push_str(&format!("url:         {}\n", url(endpoint)));
    }
    if !status.units.is_empty() {
        let mut table = Table::new(&["HOST", "GENERATION", "REPLICAS", "PHASE", "WHY"]);
        for unit in &status.units {
            table.row([
                unit.host.to_string().into(),
                unit.generation.to_string().into(),
                unit.count.to_string().into(),
                phase(unit),
                printable(unit.reason.as_deref().unwrap_or_default()).into(),
            ]);
        }
        text.push_str(&table.render(style));
    }
    text
}

/// How far one workload is, in one line: `web 3/4 ready, 1 compiling on host-b`.
pub fn progress(status: &WorkloadStatus) -> String {
    let mut groups: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for unit in status.units.iter().filter(|u| u.generation == status.generation) {
        let phase = unit.phase.map_or("told", UnitPhase::as_str);
        if phase != UnitPhase::Ready.as_str() {
            *groups.entry((phase, unit.host.as_str())).or_default() += unit.count;
        }
    }
    let mut parts = vec![ready(status)];
    parts.extend(
        groups
            .iter()
            .take(3)
            .map(|((phase, host), n)| format!("{n} {phase} on {host}")),
    );
    if groups.len() > 3 {
        parts.push(format!("{} more hosts", groups.len() - 3));
    }
    if status.state == WorkloadState::Deleting {
        let left: u32 = status.units.iter().map(|u| u.count).sum();
        return format!("{} is stopping, {left} left", status.workload);
    }
    if groups.is_empty() && status.placed < status.desired {
        parts.push(format!("{} not placed", status.desired - status.placed));
    }
    parts.join(", ")
}

/// Most reasons that one line tells.
const REASONS_SHOWN: usize = 3;

/// Why a workload is not ready: what hinders it first, then what its hosts say, each reason once.
pub fn why(status: &WorkloadStatus) -> String {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for unit in &status.units {
        match &unit.reason {
            Some(reason) => reasons.entry(reason).or_default().push(unit.host.as_str()),
            None if unit.host_lost => reasons.entry("silent").or_default().push(unit.host.as_str()),
            None => {}
        }
    }
    // That something is placed and not ready yet is no news beside the reason of it.
    let telling = |waiting: &&WaitingOn| reasons.is_empty() || !matches!(waiting, WaitingOn::Units { .. });
    let mut parts: Vec<String> = status.waiting.iter().filter(telling).map(ToString::to_string).collect();
    parts.extend(status.job.as_ref().and_then(|job| job.reason.clone()));
    parts.extend(status.fired.iter().map(last_fired));
    parts.extend(
        reasons
            .iter()
            .map(|(reason, hosts)| format!("{}: {reason}", hosts.join(", "))),
    );
    let more = parts.len().saturating_sub(REASONS_SHOWN);
    parts.truncate(REASONS_SHOWN);
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    parts.join("; ")
}

/// When a cron trigger was due last.
fn last_fired(fired: &FiredStatus) -> String {
    match fired.last_due {
        Some(due) => format!("`{}` last due {due}", fired.schedule),
        None => format!("`{}` not due yet", fired.schedule),
    }
}

/// How many are ready: `web 3/4 ready`, or how far a job is: `report 1/4 done`.
pub fn ready(status: &WorkloadStatus) -> String {
    if status.job.is_some() {
        return format!("{} {}", status.workload, counts(status));
    }
    format!("{} {} ready", status.workload, counts(status))
}

fn counts(status: &WorkloadStatus) -> String {
    if let Some(job) = &status.job {
        return format!("{}/{} done", job.completed, job.completions);
    }
    let old = if status.ready_old > 0 {
        format!(" +{} old", status.ready_old)
    } else {
        String::new()
    };
    format!("{}/{}{old}", status.ready, status.desired)
}

fn hosts(status: &WorkloadStatus) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for unit in &status.units {
        *counts.entry(unit.host.as_str()).or_default() += unit.count;
    }
    let shown: Vec<String> = counts.iter().take(4).map(|(host, n)| format!("{host}×{n}")).collect();
    let more = if counts.len() > 4 {
        format!(" +{}", counts.len() - 4)
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(" "))
}

/// The URLs, those of the first hosts.
fn urls(endpoints: &[Endpoint]) -> String {
    let shown: Vec<String> = endpoints.iter().take(3).map(url).collect();
    let more = if endpoints.len() > 3 {
        format!(" +{}", endpoints.len() - 3)
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(" "))
}

/// A URL, and the `Host` header that it answers to if there is one.
pub fn url(endpoint: &Endpoint) -> String {
    match &endpoint.host_header {
        Some(host) => format!("{} (Host: {host})", endpoint.url),
        None => endpoint.url.clone(),
    }
}

fn phase(unit: &PlacedUnit) -> Cell {
    if unit.host_lost {
        return Cell::toned("silent", Tone::Bad);
    }
    match unit.phase {
        None => Cell::toned("told", Tone::Dim),
        Some(phase) => {
            let tone = match phase {
                UnitPhase::Ready | UnitPhase::Ended => Tone::Good,
                UnitPhase::Failed | UnitPhase::Refused => Tone::Bad,
                UnitPhase::Fetching | UnitPhase::Compiling | UnitPhase::Starting | UnitPhase::Draining => Tone::Warn,
            };
            Cell::toned(phase.as_str(), tone)
        }
    }
}

fn tone(state: WorkloadState) -> Tone {
    match state {
        WorkloadState::Ready | WorkloadState::Completed => Tone::Good,
        WorkloadState::Progressing | WorkloadState::Deleting => Tone::Warn,
        WorkloadState::Waiting | WorkloadState::Failed => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> WorkloadStatus {
        serde_json::from_value(json!({
            "workload": "shop/web", "generation": 2, "state": "progressing",
            "desired": 4, "placed": 4, "ready": 3, "ready_old": 1,
            "units": [
                {"host": "host-a", "generation": 2, "count": 3, "phase": "ready"},
                {"host": "host-b", "generation": 2, "count": 1, "phase": "compiling"},
                {"host": "host-c", "generation": 1, "count": 1, "phase": "ready"},
            ],
            "endpoints": [{"host": "host-a", "url": "http://127.0.0.1:8080/web", "host_header": "web.example.com"}],
        }))
        .unwrap()
    }

    #[test]
    fn one_line_tells_how_far_a_workload_is() {
        assert_eq!(progress(&status()), "shop/web 3/4 +1 old ready, 1 compiling on host-b");
    }

    #[test]
    fn a_table_has_one_line_per_workload() {
        let statuses = Statuses {
            commit: 1,
            workloads: vec![status()],
            more: false,
        };
        assert_eq!(
            table(&statuses, Style::Plain),
            "WORKLOAD  GENERATION  STATE        READY       HOSTS                       URL\n\
             shop/web  2           progressing  3/4 +1 old  host-a×3 host-b×1 host-c×1  http://127.0.0.1:8080/web (Host: web.example.com)\n"
        );
        let none = Statuses {
            commit: 1,
            workloads: Vec::new(),
            more: false,
        };
        assert_eq!(table(&none, Style::Plain), "no workloads\n");
    }

    #[test]
    fn a_reason_that_several_hosts_give_is_told_once() {
        let mut status = status();
        status.waiting.push(WaitingOn::Units { starting: 2 });
        assert_eq!(why(&status), "2 placed and not ready yet");
        for unit in &mut status.units[..2] {
            unit.reason = Some("no such artifact".to_owned());
        }
        assert_eq!(why(&status), "host-a, host-b: no such artifact");
    }

    #[test]
    fn reasons_of_hosts_are_shown_and_cannot_steer_the_terminal() {
        let mut status = status();
        status.units[1].reason = Some("trap\u{1b}[2J".to_owned());
        let statuses = Statuses {
            commit: 1,
            workloads: vec![status],
            more: false,
        };
        assert!(table(&statuses, Style::Plain).contains("host-b: trap\\u{1b}[2J"));
    }
}
