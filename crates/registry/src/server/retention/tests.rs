use proptest::prelude::*;

use super::*;

const DAY: i64 = 24 * 3600;
const NOW: i64 = 1_000 * DAY;

fn rule(text: &str) -> Result<Rule, String> {
    let config: RetentionConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Rule::read(&config).map_err(|error| error.to_string())
}

fn tag(name: &str, pushed_days_ago: i64, pulled_days_ago: Option<i64>) -> TagFacts {
    TagFacts {
        name: name.to_owned(),
        digest: String::new(),
        tagged_at: NOW - pushed_days_ago * DAY,
        pulled_at: pulled_days_ago.map(|days| NOW - days * DAY),
    }
}

fn gone(rules: &[Rule], tags: &[TagFacts]) -> Vec<String> {
    let verdicts = judge(rules, "team/app", tags, NOW);
    tags.iter().zip(verdicts).filter(|(_, verdict)| !verdict.keep).map(|(tag, _)| tag.name.clone()).collect()
}

#[test]
fn any_condition_keeps() {
    let rules = [rule(
        r#"{"repositories": ["team/*"], "tags": ["pr-*"], "keep_last": 1, "pushed_within": "30d", "pulled_within": "14d"}"#,
    )
    .unwrap()];
    let tags = [
        tag("pr-1", 100, None),
        tag("pr-2", 90, Some(20)),
        tag("pr-3", 80, Some(3)),
        tag("pr-4", 30, None),
        tag("pr-5", 29, None),
        tag("latest", 500, None),
    ];
    assert_eq!(gone(&rules, &tags), ["pr-1", "pr-2"]);
    let verdicts = judge(&rules, "team/app", &tags, NOW);
    assert_eq!(
        verdicts[1].why,
        "rule 0: number 4 of the last 1; pushed 90d ago, of 30d; pulled 20d ago, of 14d"
    );
    assert_eq!(verdicts[5].why, "no rule is about it");
    assert!(judge(&rules, "other/app", &tags, NOW).iter().all(|verdict| verdict.keep));
}

#[test]
fn the_first_rule_decides() {
    let rules = [
        rule(r#"{"repositories": ["**"], "tags": ["v*"], "keep_last": 2, "protect": ["v1", "*-lts"]}"#)
            .unwrap(),
        rule(r#"{"repositories": ["**"], "keep_last": 1}"#).unwrap(),
    ];
    let tags = [
        tag("v1", 9, None),
        tag("v2-lts", 8, None),
        tag("v3", 7, None),
        tag("v4", 6, None),
        tag("v5", 5, None),
        tag("a", 4, None),
        tag("b", 3, None),
    ];
    assert_eq!(gone(&rules, &tags), ["v3", "a"]);
    assert_eq!(judge(&rules, "x", &tags, NOW)[1].why, "rule 0 protects *-lts");
}

#[test]
fn mistakes_are_named() {
    for (text, why) in [
        (r#"{"repositories": ["a"]}"#, "none of keep_last"),
        (r#"{"repositories": ["a"], "tags": ["a/b"], "keep_last": 1}"#, "retention.tags: \"a/b\""),
        (r#"{"repositories": ["a"], "tags": [""], "keep_last": 1}"#, "retention.tags"),
        (r#"{"repositories": [], "keep_last": 1}"#, "retention.repositories"),
        (r#"{"repositories": ["a"], "keep_last": -1}"#, "-1"),
        (r#"{"repositories": ["a"], "pushed_within": "soon"}"#, "retention.pushed_within"),
        (r#"{"repositories": ["a"], "keep_days": 3}"#, "keep_days"),
    ] {
        let error = rule(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let patterns = prop::sample::select(vec!["*", "a*", "b*", "*1"]);
    let days = || prop::option::of(0..60u64);
    let protect = prop::option::of(prop::sample::select(vec!["*2", "a1"]));
    (patterns, protect, prop::option::of(0..5u64), days(), days()).prop_map(
        |(pattern, protect, keep_last, pushed, pulled)| Rule {
            repositories: vec![Pattern::parse("**").unwrap()],
            tags: vec![pattern.to_owned()],
            protect: protect.into_iter().map(str::to_owned).collect(),
            keep_last,
            pushed_within: pushed.map(|days| Duration::from_secs(days * DAY as u64)),
            pulled_within: pulled.map(|days| Duration::from_secs(days * DAY as u64)),
        },
    )
}

fn any_tags() -> impl Strategy<Value = Vec<TagFacts>> {
    let one = ("[ab][0-9]{1,2}", 0..70i64, prop::option::of(0..70i64));
    prop::collection::btree_map(one.0, (one.1, one.2), 0..25).prop_map(|tags| {
        tags.into_iter().map(|(name, (pushed, pulled))| tag(&name, pushed, pulled)).collect()
    })
}

proptest! {
    #[test]
    fn what_goes_was_kept_by_nothing(rules in prop::collection::vec(any_rule(), 0..4), tags in any_tags()) {
        let verdicts = judge(&rules, "r", &tags, NOW);
        prop_assert_eq!(verdicts.len(), tags.len());
        for (tag, verdict) in tags.iter().zip(&verdicts) {
            let Some(rule) = rules.iter().find(|rule| rule.matches(&tag.name)) else {
                prop_assert!(verdict.keep);
                continue;
            };
            let within = |since: i64, time: Duration| NOW - since <= time.as_secs() as i64;
            let kept = rule.protect.iter().any(|pattern| is_like(&tag.name, pattern))
                || rule.pushed_within.is_some_and(|time| within(tag.tagged_at, time))
                || rule.pulled_within.is_some_and(|time| tag.pulled_at.is_some_and(|at| within(at, time)));
            prop_assert!(verdict.keep || !kept, "{} {:?}", tag.name, verdict);
        }
    }

    #[test]
    fn the_newest_stay(rule in any_rule(), tags in any_tags()) {
        let verdicts = judge(std::slice::from_ref(&rule), "r", &tags, NOW);
        let count = rule.keep_last.unwrap_or_default() as usize;
        let mut own: Vec<_> = tags.iter().zip(&verdicts)
            .filter(|(tag, _)| rule.matches(&tag.name) && !rule.protect.iter().any(|pattern| is_like(&tag.name, pattern)))
            .collect();
        own.sort_by_key(|(tag, _)| (-tag.tagged_at, std::cmp::Reverse(tag.name.clone())));
        prop_assert!(own.iter().take(count).all(|(_, verdict)| verdict.keep));
    }

    /// Judging again at once takes no more; time alone brings nothing back.
    #[test]
    fn it_comes_to_rest(rules in prop::collection::vec(any_rule(), 0..4), tags in any_tags(), later in 0..40i64) {
        let verdicts = judge(&rules, "r", &tags, NOW);
        let left: Vec<_> =
            tags.iter().zip(&verdicts).filter(|(_, verdict)| verdict.keep).map(|(tag, _)| tag.clone()).collect();
        prop_assert!(judge(&rules, "r", &left, NOW).iter().all(|verdict| verdict.keep));
        for (verdict, then) in verdicts.iter().zip(judge(&rules, "r", &tags, NOW + later * DAY)) {
            prop_assert!(verdict.keep || !then.keep);
        }
    }
}
