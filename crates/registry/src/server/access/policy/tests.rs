use proptest::prelude::*;

use super::*;

fn rule(who: &[&str], repositories: &[&str], may: &[Action]) -> Rule {
    Rule {
        who: who.iter().map(|who| Who::parse(who).unwrap()).collect(),
        grant: Grant {
            repositories: repositories.iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
            may: Actions::of(may.iter().copied()),
        },
    }
}

fn team() -> Policy {
    let members = ["user:alice", "robot:ci"].map(|member| Identity::parse(member).unwrap());
    Policy {
        groups: BTreeMap::from([("devs".to_owned(), BTreeSet::from(members))]),
        rules: vec![
            rule(&["anonymous"], &["public/**"], &[Action::Read]),
            rule(&["authenticated"], &["shared/**", "home/{user}/**"], &[Action::Write]),
            rule(&["group:devs"], &["team/**"], &[Action::Write]),
            rule(&["user:root"], &["**"], &[Action::Admin]),
        ],
    }
}

#[test]
fn rules_allow_what_they_say_and_nothing_else() {
    let policy = team();
    let allowed = |who: &str, repository: &str| {
        let actions = policy.allowed(&Identity::parse(who).unwrap(), &[], repository);
        actions.iter().map(Action::name).collect::<Vec<_>>().join(",")
    };
    for (who, repository, expected) in [
        ("anonymous", "public/app", "read"),
        ("anonymous", "team/app", ""),
        ("anonymous", "shared/app", ""),
        ("user:bob", "public/app", "read"),
        ("user:bob", "shared/app", "read,write"),
        ("user:bob", "home/bob/app", "read,write"),
        ("user:bob", "home/alice/app", ""),
        ("user:bob", "team/app", ""),
        ("user:alice", "team/app", "read,write"),
        ("certificate:alice", "team/app", ""),
        ("certificate:alice", "home/alice/app", ""),
        ("certificate:alice", "shared/app", "read,write"),
        ("robot:ci", "team/app", "read,write"),
        ("robot:ci", "shared/app", ""),
        ("robot:alice", "home/alice/app", ""),
        ("user:root", "team/app", "read,write,delete,admin"),
    ] {
        assert_eq!(allowed(who, repository), expected, "{who} {repository}");
    }
}

#[test]
fn a_robot_may_do_what_it_was_made_for() {
    let own = [Grant {
        repositories: vec![Pattern::parse("team/app").unwrap()],
        may: Actions::of([Action::Delete]),
    }];
    let (policy, robot) = (Policy::default(), Identity::Robot("ci".to_owned()));
    assert_eq!(policy.allowed(&robot, &own, "team/app"), Actions::of([Action::Read, Action::Delete]));
    assert!(policy.allowed(&robot, &own, "team/other").is_empty());
    assert!(policy.knows(&robot, &own) && !policy.knows(&robot, &[]));
}

#[test]
fn names_are_read_or_not() {
    for good in ["anonymous", "user:alice", "robot:ci", "certificate:host.example"] {
        assert_eq!(Identity::parse(good).unwrap().to_string(), good);
    }
    for bad in ["", "alice", "user:", "group:", "groups:x", "Authenticated", ":x"] {
        assert_eq!(Who::parse(bad), None, "{bad}");
    }
    // A group is no identity: nobody can be one.
    assert_eq!(Identity::parse("group:devs"), None);
    assert_eq!(Identity::parse("authenticated"), None);
}

fn identities() -> impl Strategy<Value = Identity> {
    prop_oneof![
        Just(Identity::Anonymous),
        "[ab]".prop_map(Identity::User),
        "[ab]".prop_map(Identity::Robot),
        "[ab]".prop_map(Identity::Certificate),
    ]
}

fn grants() -> impl Strategy<Value = Grant> {
    let pattern =
        prop_oneof![Just("**"), Just("a/*"), Just("a/**"), Just("a/b"), Just("{user}/x"), Just("b")];
    (prop::collection::vec(pattern, 0..3), 0u8..16).prop_map(|(patterns, bits)| Grant {
        repositories: patterns.into_iter().map(|pattern| Pattern::parse(pattern).unwrap()).collect(),
        may: Actions(bits),
    })
}

fn rules() -> impl Strategy<Value = Rule> {
    let who = prop_oneof![
        Just(Who::Anonymous),
        Just(Who::Authenticated),
        "[gh]".prop_map(Who::Group),
        identities().prop_map(Who::One),
    ];
    (prop::collection::vec(who, 0..3), grants()).prop_map(|(who, grant)| Rule { who, grant })
}

fn policies() -> impl Strategy<Value = Policy> {
    let groups = prop::collection::btree_map("[gh]", prop::collection::btree_set(identities(), 0..3), 0..3);
    (groups, prop::collection::vec(rules(), 0..6)).prop_map(|(groups, rules)| Policy { groups, rules })
}

fn repositories() -> impl Strategy<Value = String> {
    prop_oneof![Just("a/b"), Just("a/b/c"), Just("b"), Just("a/x"), Just("b/x"), Just("c")]
        .prop_map(str::to_owned)
}

fn within(less: Actions, more: Actions) -> bool {
    less.and(more) == less
}

proptest! {
    #[test]
    fn without_rules_nothing_is_allowed(who in identities(), repository in repositories()) {
        prop_assert!(Policy::default().allowed(&who, &[], &repository).is_empty());
    }

    #[test]
    fn another_rule_never_takes_away(policy in policies(), further in rules(), who in identities(), repository in repositories()) {
        let before = policy.allowed(&who, &[], &repository);
        let mut more = policy;
        more.rules.push(further);
        prop_assert!(within(before, more.allowed(&who, &[], &repository)));
    }

    #[test]
    fn order_means_nothing(policy in policies(), turn in 0usize..6, who in identities(), repository in repositories()) {
        let before = policy.allowed(&who, &[], &repository);
        let mut turned = policy;
        let count = turned.rules.len();
        if count > 0 {
            turned.rules.rotate_left(turn % count);
        }
        turned.rules.reverse();
        prop_assert_eq!(before, turned.allowed(&who, &[], &repository));
    }

    #[test]
    fn everybody_may_what_strangers_may(policy in policies(), who in identities(), repository in repositories()) {
        // But what a rule gives to one named "anonymous" is the same as to all.
        let mut policy = policy;
        policy.rules.retain(|rule| !rule.who.contains(&Who::One(Identity::Anonymous)));
        policy.groups.values_mut().for_each(|members| { members.remove(&Identity::Anonymous); });
        let strangers = policy.allowed(&Identity::Anonymous, &[], &repository);
        prop_assert!(within(strangers, policy.allowed(&who, &[], &repository)));
    }

    #[test]
    fn what_is_allowed_is_closed(policy in policies(), own in prop::collection::vec(grants(), 0..3), who in identities(), repository in repositories()) {
        let allowed = policy.allowed(&who, &own, &repository);
        prop_assert_eq!(allowed, allowed.with_implied());
        prop_assert!(allowed.is_empty() || policy.knows(&who, &own));
    }

    #[test]
    fn every_permission_has_a_rule_that_says_so(policy in policies(), who in identities(), repository in repositories()) {
        let allowed = policy.allowed(&who, &[], &repository);
        for action in allowed.iter() {
            let alone = policy.rules.iter().any(|rule| {
                let one = Policy { groups: policy.groups.clone(), rules: vec![rule.clone()] };
                one.allowed(&who, &[], &repository).contains(action)
            });
            prop_assert!(alone, "{:?}", action);
        }
    }
}
