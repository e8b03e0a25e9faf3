//! Fields of feeds.

use super::*;

#[test]
fn every_field_of_a_new_feed_is_refused_by_name_and_rule() {
    let long_slug = format!("--slug={}", "x".repeat(51));
    let long_audience = format!("--audience={}", "x".repeat(256));
    let long_name = format!("--name={}", "x".repeat(201));
    let host = |host: &str| format!("--registry={host}");
    let ecr = "is not a private ECR registry";
    let mut cases: Vec<(String, &str, &str)> = vec![
        (host(&format!("{REGISTRY}.evil.example")), "registry", ecr),
        (host("123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn"), "registry", ecr),
        (host("123456789012.dkr.ecr.eu-central-1.amazonaws.org"), "registry", ecr),
        (host("123456789012.dkr.ecr.eu-central-1.amazonaws.co"), "registry", ecr),
        (host("evil-123456789012.dkr.ecr.eu-central-1.amazonaws.com"), "registry", ecr),
        (host("123456789012.dkr.ecr.evil.example.amazonaws.com"), "registry", ecr),
        (host("evil.123456789012.dkr.ecr.eu-central-1.amazonaws.com"), "registry", ecr),
        (host("12345678901.dkr.ecr.eu-central-1.amazonaws.com"), "registry", ecr),
        (host("123456789012.dkr.ecr.amazonaws.com"), "registry", ecr),
        (host("public.ecr.aws"), "registry", ecr),
        (host("harbor.example"), "registry", "the endpoint sts must be given too"),
        (host(&format!("https://{REGISTRY}")), "--registry", "leave off “https://”"),
        (host(&format!("{REGISTRY}/app")), "--registry", "leave off “/”"),
        (host(&format!("me@{REGISTRY}")), "--registry", "leave off user name and password"),
        (host(&format!("{REGISTRY}:99999")), "--registry", "a port from 1 to 65535"),
        (host(&format!("evil.example#.{REGISTRY}")), "--registry", "not '#'"),
        (host(&format!("{REGISTRY}\n")), "--registry", r"not '\n'"),
        (host("12345678901\u{662}.dkr.ecr.eu-central-1.amazonaws.com"), "--registry", "U+0662"),
        (host(""), "--registry", "write a name or an address"),
    ];
    for (flag, field, rule) in [
        ("--slug=Prod", "--slug", "a–z, 0–9 and inner “-”, not 'P'"),
        ("--slug=a:b", "--slug", "not ':'"),
        ("--slug=a/b", "--slug", "not '/'"),
        ("--slug=-a", "--slug", "not “-” at the start or end"),
        ("--slug=p\u{430}th", "--slug", "U+0430"),
        (long_slug.as_str(), "--slug", "1–50 characters"),
        ("--slug=", "--slug", "a slug cannot be empty"),
        ("--space=Default", "--space", "a–z"),
        ("--space=", "--space", "a slug cannot be empty"),
        ("--role-arn=pull", "--role-arn", "use 20 to 2048 characters"),
        ("--role-arn=arn:aws:iam::123456789012:user/pull", "--role-arn", "there must be “role/”"),
        (
            "--role-arn=arn:aws:sts::123456789012:assumed-role/pull/x",
            "--role-arn",
            "write arn:PARTITION:iam::",
        ),
        ("--role-arn=arn:aws:iam::12345:role/pull-image", "--role-arn", "12 digits"),
        ("--role-arn=arn:aws:iam::123456789012:role/", "--role-arn", "as the name"),
        ("--role-arn=arn:aws:iam::123456789012:role/a b", "--role-arn", "as the name"),
        ("--role-arn=arn:evil:iam::123456789012:role/pull", "--role-arn", "a partition of AWS"),
        (
            "--role-arn=arn:aws-cn:iam::123456789012:role/pull",
            "role_arn",
            "cannot read a registry of partition aws",
        ),
        ("--session-duration=899", "--session-duration", "900 to 43200 seconds"),
        ("--session-duration=43201", "--session-duration", "900 to 43200 seconds"),
        ("--session-duration=soon", "--session-duration", "900 to 43200 seconds"),
        ("--session-duration=-900", "--session-duration", "900 to 43200 seconds"),
        ("--token-lifetime=3601", "token_lifetime", "max-token-lifetime, 3600 s"),
        ("--token-lifetime=0", "token_lifetime", "between 1 s"),
        ("--token-lifetime=1.5h", "--token-lifetime", "a whole number of seconds"),
        ("--token-lifetime=99999999999999999999", "--token-lifetime", "a whole number of seconds"),
        ("--subject-keys=feed", "--subject-keys", "need “space” or “feed_id”"),
        ("--subject-keys=space,colour", "--subject-keys", "\"colour\" is not a subject key"),
        ("--subject-keys=space,space", "--subject-keys", "“space” twice"),
        ("--subject-keys=space,tenant,tenant?", "--subject-keys", "“tenant” twice"),
        ("--subject-keys=space?", "--subject-keys", "always present"),
        ("--subject-keys=space,,feed", "--subject-keys", "is not a subject key"),
        ("--subject-keys=", "--subject-keys", "needs keys"),
        ("--audience=", "--audience", "an audience cannot be empty"),
        ("--audience= sts.amazonaws.com", "--audience", "without space at the start or end"),
        ("--audience=sts.amazonaws.com\u{200b}", "--audience", "visible characters"),
        (long_audience.as_str(), "--audience", "1–255 visible characters, not 256"),
        ("--alg=HS256", "--alg", "use RS256 or ES256"),
        ("--alg=none", "--alg", "use RS256 or ES256"),
        ("--alg=es256", "--alg", "use RS256 or ES256"),
        ("--endpoint=azure=https://a.example", "endpoint \"azure\"", "use sts or ecr"),
        ("--endpoint=sts", "--endpoint", "write NAME=URL"),
        ("--endpoint=sts=http://a.example", "--endpoint", "only for a loopback host"),
        ("--endpoint=sts=http://127.0.0.1.evil.example", "--endpoint", "only for a loopback host"),
        ("--endpoint=sts=https://a.example?x", "--endpoint", "leave off the query"),
        ("--name=", "--name", "1–200 characters"),
        ("--name=a\u{1b}[31m", "--name", "no control characters"),
        ("--name=\u{202e}dorp", "--name", "no direction marks"),
        ("--name=prod\u{200b}", "--name", "(U+200B)"),
        (long_name.as_str(), "--name", "1–200 characters"),
    ] {
        cases.push((flag.to_owned(), field, rule));
    }
    let carnet = carnet();
    let cases =
        cases.iter().map(|(flag, field, rule)| (feed_add(&[flag]), USAGE, vec![*field, *rule])).chain([
            (
                feed_add(&["--endpoint=sts=https://a.example", "--endpoint=sts=https://b.example"]),
                USAGE,
                vec!["--endpoint", "given twice"],
            ),
            (words("feed add aws-ecr --space default --slug new"), USAGE, vec!["--registry", "--role-arn"]),
            (feed_add(&["--slug=prod"]), FAILED, vec!["default/prod"]),
        ]);
    assert_all_refused(&carnet, cases);
}
