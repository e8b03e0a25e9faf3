use proptest::prelude::*;

use super::*;

fn scope(json: &str) -> Scope {
    serde_json::from_str(json).unwrap()
}

#[test]
fn names_of_the_distribution_specification_are_accepted() {
    let long = "a".repeat(256);
    for name in ["a", "0", "app/one", "a.b", "a_b", "a__b", "a-b", "a---b", "team/a.b_c--d/e", long.as_str()]
    {
        assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
    }
}

#[test]
fn wildcards_variables_and_second_scopes_are_not_names() {
    use RepositoryNameRule as Rule;
    let long = "a".repeat(257);
    for (name, rule) in [
        ("*", Rule::Wildcard),
        ("app/*", Rule::Wildcard),
        ("app/on?", Rule::Wildcard),
        ("${aws:username}", Rule::Character('$')),
        ("a:pull repository:b:push", Rule::Tag),
        ("a:pull", Rule::Tag),
        ("a@sha256:0", Rule::Tag),
        ("a b", Rule::Character(' ')),
        ("a,b", Rule::Character(',')),
        ("a\",\"b", Rule::Character('"')),
        ("a&scope=b", Rule::Character('&')),
        ("a%2fb", Rule::Character('%')),
        ("a\n", Rule::Character('\n')),
        ("App", Rule::Character('A')),
        ("аpp", Rule::Character('а')),
        ("", Rule::Segment),
        ("/a", Rule::Segment),
        ("a/", Rule::Segment),
        ("a//b", Rule::Segment),
        ("..", Rule::Segment),
        ("a/../b", Rule::Segment),
        ("a..b", Rule::Segment),
        ("a___b", Rule::Segment),
        ("a._b", Rule::Segment),
        ("a-.b", Rule::Segment),
        ("-a", Rule::Segment),
        ("a-", Rule::Segment),
        (&long, Rule::TooLong),
    ] {
        assert_eq!(name.parse::<RepositoryName>().map_err(|error| error.rule), Err(rule), "{name:?}");
    }
}

#[test]
fn members_absent_from_a_scope_are_not_limited() {
    assert!(scope("{}").is_everything());
    assert_eq!(scope(r#"{"actions":["pull","push"]}"#), Scope::everything());
    let pull = scope(r#"{"actions":["pull"]}"#);
    assert!(!pull.is_everything() && pull.allows(Action::Pull) && !pull.allows(Action::Push));
    let one = scope(r#"{"repositories":["b","a","b"]}"#);
    assert_eq!(
        serde_json::to_string(&one).unwrap(),
        r#"{"repositories":["a","b"],"actions":["pull","push"]}"#
    );
    assert_eq!(scope(&serde_json::to_string(&one).unwrap()), one);
}

#[test]
fn json_that_is_not_a_scope_is_refused_with_the_rule() {
    for (json, rule) in [
        (r#"{"repositories":[]}"#, "repositories: name at least one"),
        (r#"{"actions":[]}"#, "actions: name at least one"),
        (r#"{"repositories":["a/*"]}"#, "wildcards are not allowed"),
        (r#"{"actions":["delete"]}"#, "expected `pull` or `push`"),
        (r#"{"repository":["a"]}"#, "unknown field"),
        (r#"{"repositories":["a"],"repositories":["b"]}"#, "duplicate field"),
    ] {
        let message = serde_json::from_str::<Scope>(json).unwrap_err().to_string();
        assert!(message.contains(rule), "{json}: {message}");
    }
}

#[test]
fn sixteen_repositories_can_be_requested_and_longer_lists_of_earlier_grants_stay_valid() {
    let names = |count| (0..count).map(|n| format!("r{n}").parse::<RepositoryName>().unwrap());
    assert!(Scope::new(Some(names(16)), None::<[Action; 0]>).is_ok());
    let refused = Scope::new(Some(names(17)), None::<[Action; 0]>).unwrap_err();
    assert_eq!(refused.to_string(), "repositories: name at most 16, not 17");
    let stored = serde_json::json!({ "repositories": names(200).collect::<Vec<_>>() }).to_string();
    assert_eq!(scope(&stored).repositories().unwrap().len(), 200);
}

#[test]
fn narrowing_keeps_the_common_part_and_refuses_an_empty_one() {
    let fixed = scope(r#"{"repositories":["a","b"],"actions":["pull"]}"#);
    assert_eq!(fixed.narrowed_to(&Scope::everything()).unwrap(), fixed);
    assert_eq!(Scope::everything().narrowed_to(&fixed).unwrap(), fixed);
    let asked = scope(r#"{"repositories":["b","c"]}"#);
    assert_eq!(fixed.narrowed_to(&asked).unwrap(), scope(r#"{"repositories":["b"],"actions":["pull"]}"#));
    assert_eq!(
        fixed.narrowed_to(&scope(r#"{"repositories":["c"]}"#)),
        Err(ScopeError::Outside("repositories"))
    );
    assert_eq!(fixed.narrowed_to(&scope(r#"{"actions":["push"]}"#)), Err(ScopeError::Outside("actions")));
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let names = proptest::collection::btree_set("[a-d]", 1..4)
        .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>());
    let actions = proptest::sample::subsequence(Action::ALL.to_vec(), 1..=2);
    (proptest::option::of(names), proptest::option::of(actions))
        .prop_map(|(repositories, actions)| Scope::new(repositories, actions).unwrap())
}

/// Returns everything that a scope allows, among the names used here and one more.
fn allowed(scope: &Scope) -> BTreeSet<(String, Action)> {
    let names = ["a", "b", "c", "d", "other"].map(|name| name.parse::<RepositoryName>().unwrap());
    let inside = |name: &&RepositoryName| scope.repositories().is_none_or(|names| names.contains(*name));
    names
        .iter()
        .filter(inside)
        .flat_map(|name| Action::ALL.into_iter().map(move |action| (name.to_string(), action)))
        .filter(|(_, action)| scope.allows(*action))
        .collect()
}

proptest! {
    #[test]
    fn narrowing_allows_exactly_the_common_part(fixed in any_scope(), asked in any_scope()) {
        let both = &allowed(&fixed) & &allowed(&asked);
        match fixed.narrowed_to(&asked) {
            Ok(narrowed) => prop_assert_eq!(allowed(&narrowed), both),
            Err(_) => prop_assert!(both.is_empty()),
        }
    }

    #[test]
    fn a_scope_contains_exactly_those_that_allow_nothing_else(wide in any_scope(), narrow in any_scope()) {
        prop_assert_eq!(wide.contains(&narrow), allowed(&narrow).is_subset(&allowed(&wide)));
    }

    #[test]
    fn a_parsed_repository_has_no_character_with_a_meaning_in_another_syntax(text in "[a-c./_:*$ -]{0,12}|\\PC{0,8}") {
        if let Ok(name) = text.parse::<RepositoryName>() {
            prop_assert_eq!(name.as_str(), &text);
            prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b)));
            prop_assert!(!text.contains("..") && !text.contains("//") && !text.starts_with('/'));
        }
    }
}
