//! A purge hits what was there and what was on its way, and nothing that came after.

use proptest::prelude::*;

use super::*;

/// Of answers whose own key nobody purges.
const KEY: Mark = Mark(7);

fn marked(tags: &[&str], path: &str) -> Marks {
    Marks::new(tags.iter().map(|tag| Mark::tag(tag)), path)
}

#[test]
fn what_was_filled_before_a_purge_is_gone_and_what_came_after_is_not() {
    let mut purges = Purges::default();
    let before = purges.latest();
    purges.purge(Target::Marked(Mark::tag("release-7")), Severity::Hard, Millis(5)).unwrap();
    let hit = marked(&["stable", "release-7"], "/v1/a");
    assert_eq!(purges.verdict(KEY, &hit, before), Verdict::Gone);
    assert_eq!(purges.verdict(KEY, &hit, purges.latest()), Verdict::Untouched);
    assert_eq!(purges.verdict(KEY, &marked(&["stable"], "/v1/a"), before), Verdict::Untouched);
}

#[test]
fn a_soft_purge_makes_stale_from_the_first_one_on_and_a_hard_one_wins() {
    let mut purges = Purges::default();
    let since = purges.latest();
    let answer = marked(&["a", "b"], "/x");
    purges.purge(Target::Marked(Mark::tag("a")), Severity::Soft, Millis(5)).unwrap();
    purges.purge(Target::Prefix("/x".to_owned()), Severity::Soft, Millis(9)).unwrap();
    assert_eq!(purges.verdict(KEY, &answer, since), Verdict::StaleSince(Millis(5)));
    purges.purge(Target::All, Severity::Hard, Millis(10)).unwrap();
    assert_eq!(purges.verdict(KEY, &answer, since), Verdict::Gone);
}

#[test]
fn marks_of_different_kinds_never_meet() {
    let marks = [Mark::tag("a"), Mark::route("a"), Mark::tenant("a")];
    assert!(marks[0] != marks[1] && marks[1] != marks[2] && marks[0] != marks[2]);
}

#[test]
fn notes_are_bounded_and_a_refused_purge_has_no_number() {
    let mut purges = Purges::default();
    for number in 0..Purges::MAX_PREFIXES {
        purges.purge(Target::Prefix(format!("/{number}")), Severity::Hard, Millis(0)).unwrap();
    }
    let latest = purges.latest();
    assert_eq!(purges.purge(Target::Prefix("/more".to_owned()), Severity::Hard, Millis(0)), None);
    assert!(purges.purge(Target::Prefix("/1".to_owned()), Severity::Soft, Millis(0)).is_some());
    purges.forget(latest);
    assert_eq!(purges.notes(), 1);
    assert!(purges.purge(Target::Prefix("/more".to_owned()), Severity::Hard, Millis(0)).is_some());
}

#[derive(Clone, Debug)]
enum Act {
    Purge { tag: u8, prefix: bool, hard: bool },
    Fill { tags: Vec<u8> },
    Forget,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0_u8..4, any::<bool>(), any::<bool>()).prop_map(|(tag, prefix, hard)| Act::Purge { tag, prefix, hard }),
        proptest::collection::vec(0_u8..4, 0..3).prop_map(|tags| Act::Fill { tags }),
        Just(Act::Forget),
    ]
}

#[test]
fn a_change_of_a_path_hits_shared_answers_and_the_tenants_own() {
    let mut purges = Purges::default();
    for place in [Mark::place("/v1/a", None), Mark::place("/v1/a", Some("t-1"))] {
        purges.purge(Target::Marked(place), Severity::Hard, Millis(1)).unwrap();
    }
    let verdict = |path: &str, tenant| {
        let marks = Marks::new([], path).of_tenant(tenant);
        purges.verdict(Mark::tag("key"), &marks, PurgeNumber(0))
    };
    assert_eq!(verdict("/v1/a", None), Verdict::Gone);
    assert_eq!(verdict("/v1/a", Some("t-1")), Verdict::Gone);
    assert_eq!(verdict("/v1/a", Some("t-2")), Verdict::Untouched);
    for other in ["/v1/a/", "/v1/A", "/v1"] {
        assert_eq!(verdict(other, None), Verdict::Untouched, "{other}");
    }
    let tagged = Marks::new([], "/v1/a").of_tenant(Some("t-1")).with([Mark::tag("x")]);
    assert_eq!(purges.verdict(Mark::tag("key"), &tagged, PurgeNumber(0)), Verdict::Gone, "tags change nothing of it");
}

/// An answer as the model sees it: its tags, and what was purged since its fill was started.
struct Filled {
    marks: Marks,
    tags: Vec<u8>,
    since: PurgeNumber,
    gone: bool,
    stale: bool,
}

proptest! {
    #[test]
    fn verdicts_are_those_of_a_list_of_all_purges(acts in proptest::collection::vec(act(), 0..60)) {
        let mut purges = Purges::default();
        let mut filled: Vec<Filled> = Vec::new();
        for (time, act) in (1..).zip(acts) {
            match act {
                Act::Purge { tag, prefix, hard } => {
                    let severity = if hard { Severity::Hard } else { Severity::Soft };
                    let target = if prefix {
                        Target::Prefix(format!("/{tag}"))
                    } else {
                        Target::Marked(Mark::tag(&tag.to_string()))
                    };
                    purges.purge(target, severity, Millis(time)).unwrap();
                    // The path of an answer is made of its first tag.
                    let hit = |answer: &Filled| {
                        if prefix { answer.tags.first() == Some(&tag) } else { answer.tags.contains(&tag) }
                    };
                    for answer in filled.iter_mut().filter(|answer| hit(answer)) {
                        answer.gone |= hard;
                        answer.stale |= !hard;
                    }
                }
                Act::Fill { tags } => {
                    let path = tags.first().map_or("/".to_owned(), |tag| format!("/{tag}"));
                    let marks = Marks::new(tags.iter().map(|tag| Mark::tag(&tag.to_string())), &path);
                    filled.push(Filled { marks, tags, since: purges.latest(), gone: false, stale: false });
                }
                // A sweep has applied all notes: what is left is as new as the sweep.
                Act::Forget => {
                    let swept = purges.latest();
                    for answer in &mut filled {
                        match purges.verdict(KEY, &answer.marks, answer.since) {
                            Verdict::Gone => prop_assert!(answer.gone),
                            Verdict::StaleSince(_) => prop_assert!(answer.stale),
                            Verdict::Untouched => {}
                        }
                    }
                    filled.retain(|answer| !answer.gone && !answer.stale);
                    filled.iter_mut().for_each(|answer| answer.since = swept);
                    purges.forget(swept);
                }
            }
            for answer in &filled {
                let verdict = purges.verdict(KEY, &answer.marks, answer.since);
                let expected = (answer.gone, answer.stale);
                let given = (verdict == Verdict::Gone, matches!(verdict, Verdict::StaleSince(_)));
                prop_assert_eq!(given, (expected.0, expected.1 && !expected.0));
            }
        }
    }
}
