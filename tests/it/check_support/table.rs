//! The table of a check beside its JSON. Both tell the same, so that one snapshot of a case is enough.

use serde_json::Value;

/// Asserts that `table` shows the members of `response` in order, each on its line, and nothing else.
///
/// Columns and indentation do not count here; the unit tests of the table have them.
pub(crate) fn assert_shows(table: &str, response: &Value) {
    assert_eq!(lines(table), expected(response), "the table tells something else than the JSON {response:#}");
}

/// The lines of `table`, with one space between words.
fn lines(table: &str) -> Vec<String> {
    table.lines().map(squeezed).collect()
}

/// The lines of the table for `response`, with one space between words.
fn expected(response: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let steps = list(&response["steps"]);
    let mut lines = vec!["STEP RESULT TIME FOUND".to_owned()];
    for step in &steps {
        let result = if step["ok"] == true { "ok" } else { "FAILED" };
        lines.push(format!("{} {result} TIME ms {}", shown(&step["step"]), shown(&step["detail"])));
    }
    lines.extend(list(&response["warnings"]).iter().map(|warning| format!("warning: {}", shown(warning))));
    if let Some(failed) = steps.iter().find(|step| step["ok"] == false) {
        lines.push(String::new());
        lines.push(format!("{} failed: {}", shown(&failed["step"]), shown(&failed["detail"])));
        let mut members = |heading: String, of: &Value, names: &[(&str, &str)]| {
            lines.extend(of.is_object().then_some(heading));
            let present = names.iter().filter(|(name, _)| !of[name].is_null());
            lines.extend(present.map(|(name, words)| format!("{words} {}", shown(&of[name]))));
        };
        let presented = ["iss", "sub", "aud", "kid", "alg"].map(|name| (name, name));
        members("presented".to_owned(), &failed["presented"], &presented);
        let upstream = ["status", "code", "message"].map(|name| (name, name));
        let upstream = [&upstream[..], &[("request_id", "request id")]].concat();
        let heading = format!("answered by {}", shown(&failed["upstream"]["provider"]));
        members(heading, &failed["upstream"], &upstream);
        let causes = list(&failed["causes"]);
        lines.extend((!causes.is_empty()).then(|| "likely causes, the most likely first".to_owned()));
        for (cause, number) in causes.iter().zip(1..) {
            lines.push(format!("{number}. {}", shown(&cause["cause"])));
            lines.push(shown(&cause["fix"]));
            lines.extend(cause["command"].is_string().then(|| shown(&cause["command"])));
        }
    }
    lines.iter().map(|line| squeezed(line)).collect()
}

/// `value` as the table has it: on one line.
fn shown(value: &Value) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.chars().map(escaped).collect(),
        other => other.to_string(),
    }
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_table_that_lacks_or_adds_a_line_or_changes_a_word_does_not_tell_the_same() {
    let response = serde_json::json!({
        "ok": false, "warnings": ["not https"], "steps": [
            { "step": "jwks", "ok": true },
            { "step": "pull", "ok": false, "detail": "no\nlayer", "presented": null,
              "upstream": { "provider": "registry", "status": 404, "code": null, "request_id": "ID" },
              "causes": [{ "cause": "gone", "fix": "push", "command": "crane push" }, { "cause": "late", "fix": "wait" }] },
        ]
    });
    let table = " STEP  RESULT  TIME     FOUND
 jwks  ok      TIME ms
 pull  FAILED  TIME ms  no\\nlayer
warning: not https

pull failed: no\\nlayer
answered by registry
  status      404
  request id  ID
likely causes, the most likely first
  1. gone
     push
       crane push
  2. late
     wait
";
    assert_shows(table, &response);
    let shows = |table: &str| lines(table) == expected(&response);
    for (line, number) in table.lines().zip(0..) {
        let without = table.lines().zip(0..).filter(|(_, at)| *at != number).map(|(line, _)| line);
        assert!(!shows(&without.collect::<Vec<_>>().join("\n")), "{line:?} is missing");
    }
    assert!(!shows(&format!("{table}more\n")));
    assert!(!shows(&table.replace("404", "403")));
    assert!(!shows(&table.replace("FAILED", "ok")));
}
