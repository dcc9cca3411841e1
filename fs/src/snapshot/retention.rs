//! Which snapshots to keep: the rules of backup tools, and the thinning of heads nobody asked to keep. Pure.
//!
//! Hours, days, weeks, months and years are those of UTC.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;

/// How many snapshots to keep of each kind; 0 keeps none of that kind. The newest of each hour, day, week, month or
/// year that has one counts, from the newest back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest ones.
    pub last: usize,
    /// One of each hour.
    pub hourly: usize,
    /// One of each day.
    pub daily: usize,
    /// One of each week (Monday to Sunday).
    pub weekly: usize,
    /// One of each month.
    pub monthly: usize,
    /// One of each year.
    pub yearly: usize,
    /// Everything younger than this.
    pub within: Duration,
}

impl Retention {
    /// Whether the rules keep nothing at all: surely a mistake.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the rules say about one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot, by its sequence.
    pub sequence: u64,
    /// Why it stays, for a person to read; empty if it goes.
    pub reasons: Vec<&'static str>,
}

impl Verdict {
    /// Whether it stays.
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Spans of time, each with the rule that counts them.
#[derive(Clone, Copy)]
enum Span {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

fn span_of(seconds: i64, span: Span) -> (i64, i64) {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    match span {
        Span::Hour => (seconds.div_euclid(3600), 0),
        Span::Day => (seconds.div_euclid(86_400), 0),
        Span::Week => {
            let (year, week, _) = time.to_iso_week_date();
            (i64::from(year), i64::from(week))
        }
        Span::Month => (i64::from(time.year()), i64::from(u8::from(time.month()))),
        Span::Year => (i64::from(time.year()), 0),
    }
}

/// Judges snapshots, given as (sequence, seconds since 1970), in any order; answers from the newest to the oldest.
pub(crate) fn judge(rules: &Retention, now: i64, snapshots: &[(u64, i64)]) -> Vec<Verdict> {
    let mut sorted = snapshots.to_vec();
    sorted.sort_unstable_by_key(|(sequence, seconds)| std::cmp::Reverse((*seconds, *sequence)));
    let within = i64::try_from(rules.within.as_secs()).unwrap_or(i64::MAX);
    let mut verdicts: Vec<Verdict> = sorted
        .iter()
        .enumerate()
        .map(|(at, (sequence, seconds))| {
            let mut reasons = Vec::new();
            reasons.extend((at < rules.last).then_some("last"));
            let young = within > 0 && now.saturating_sub(*seconds) < within;
            reasons.extend(young.then_some("within"));
            Verdict {
                sequence: *sequence,
                reasons,
            }
        })
        .collect();
    let spans = [
        (Span::Hour, rules.hourly, "hourly"),
        (Span::Day, rules.daily, "daily"),
        (Span::Week, rules.weekly, "weekly"),
        (Span::Month, rules.monthly, "monthly"),
        (Span::Year, rules.yearly, "yearly"),
    ];
    for (span, count, reason) in spans {
        let mut seen = BTreeSet::new();
        for (verdict, (_, seconds)) in verdicts.iter_mut().zip(&sorted) {
            if seen.len() >= count {
                break;
            }
            if seen.insert(span_of(*seconds, span)) {
                verdict.reasons.push(reason);
            }
        }
    }
    verdicts
}

/// How heads that nobody asked to keep thin out with age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thinning {
    /// All of them stay this long.
    pub all: Duration,
    /// The last of each hour stays this long.
    pub hourly: Duration,
    /// The last of each day stays this long.
    pub daily: Duration,
}

impl Default for Thinning {
    fn default() -> Self {
        Self {
            all: Duration::from_secs(3600),
            hourly: Duration::from_secs(2 * 86_400),
            daily: Duration::from_secs(30 * 86_400),
        }
    }
}

/// The heads that go, of those given as (sequence, when it was replaced). A head's age counts from its replacement:
/// until then it was the present, however old.
pub(crate) fn thin(rules: &Thinning, now: i64, heads: &[(u64, i64)]) -> BTreeSet<u64> {
    let secs = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let mut sorted = heads.to_vec();
    sorted.sort_unstable_by_key(|(sequence, until)| std::cmp::Reverse((*until, *sequence)));
    let (mut hours, mut days) = (BTreeSet::new(), BTreeSet::new());
    let mut gone = BTreeSet::new();
    for (sequence, until) in sorted {
        let age = now.saturating_sub(until);
        let first_of_hour = hours.insert(span_of(until, Span::Hour));
        let first_of_day = days.insert(span_of(until, Span::Day));
        let stays = age < secs(rules.all)
            || (first_of_hour && age < secs(rules.hourly))
            || (first_of_day && age < secs(rules.daily));
        if !stays {
            gone.insert(sequence);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const DAY: i64 = 86_400;
    /// A Wednesday noon.
    const NOW: i64 = 1_700_049_600 - 1_700_049_600 % DAY + DAY / 2;

    #[test]
    fn a_month_of_commits_thins_to_hours_and_days() {
        let heads: Vec<(u64, i64)> = (0..40 * 24 * 12)
            .map(|n| (n, NOW - n as i64 * 300))
            .collect();
        let gone = thin(&Thinning::default(), NOW, &heads);
        let kept: Vec<_> = heads.iter().filter(|(s, _)| !gone.contains(s)).collect();
        // 12 in the last hour, one for each of 48 hours, one for each of 30 days; some serve twice.
        assert!(
            (12 + 46 + 28..12 + 49 + 31).contains(&kept.len()),
            "{}",
            kept.len()
        );
        assert!(kept.iter().all(|(_, until)| NOW - until < 30 * DAY));
        let left: Vec<(u64, i64)> = kept.into_iter().copied().collect();
        assert!(
            thin(&Thinning::default(), NOW, &left).is_empty(),
            "thinning twice is thinning once"
        );
    }

    #[test]
    fn what_was_replaced_just_now_stays_however_old() {
        assert!(thin(&Thinning::default(), NOW, &[(1, NOW)]).is_empty());
        assert_eq!(
            thin(&Thinning::default(), NOW, &[(1, NOW - 31 * DAY)]).len(),
            1
        );
    }

    #[test]
    fn the_rules_keep_the_newest_of_each_span() {
        let days: Vec<(u64, i64)> = (0..800).map(|n| (n, NOW - n as i64 * DAY)).collect();
        let keep = |rules: Retention| -> Vec<u64> {
            let verdicts = judge(&rules, NOW, &days);
            assert_eq!(verdicts.len(), days.len());
            verdicts
                .into_iter()
                .filter(Verdict::keeps)
                .map(|v| v.sequence)
                .collect()
        };
        let none = Retention::default();
        assert!(keep(none).is_empty() && none.is_empty());
        assert_eq!(keep(Retention { last: 3, ..none }), [0, 1, 2]);
        assert_eq!(keep(Retention { daily: 2, ..none }), [0, 1]);
        let weekly = keep(Retention { weekly: 3, ..none });
        assert_eq!((weekly.len(), weekly[0], weekly[2] - weekly[1]), (3, 0, 7));
        assert_eq!(
            keep(Retention {
                monthly: 13,
                ..none
            })
            .len(),
            13
        );
        assert_eq!(
            keep(Retention { yearly: 9, ..none }).len(),
            3,
            "there are three years"
        );
        let within = Retention {
            within: Duration::from_secs(5 * DAY as u64),
            ..none
        };
        assert_eq!(keep(within).len(), 5);
    }

    #[test]
    fn several_rules_may_keep_the_same_one() {
        let rules = Retention {
            last: 1,
            daily: 1,
            yearly: 1,
            ..Retention::default()
        };
        let verdicts = judge(&rules, NOW, &[(1, NOW), (2, NOW - 60)]);
        assert_eq!(verdicts[0].reasons, ["last", "daily", "yearly"]);
        assert!(!verdicts[1].keeps());
    }
}
