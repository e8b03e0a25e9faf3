//! A provider's response, parsed here without carnet's code and compared with carnet's output.

use serde_json::Value;

/// Asserts that a failed step shows the status, code, message and request id of the response `sent`.
pub(crate) fn assert_verbatim(sent: &str, failed: &Value) {
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let shown = &failed["upstream"];
    let status = head.split(' ').nth(1).unwrap();
    assert_eq!(shown["status"].to_string(), status, "{sent}\n{failed:#}");
    // An unusable success may contain a credential, so nothing of it is shown.
    if status == "200" && !matches!(failed["step"].as_str(), Some("discovery" | "jwks")) {
        assert_eq!(shown["message"], Value::Null, "{failed:#}");
        return;
    }
    let (code, message) = code_and_message(body);
    if let Some(code) = code {
        assert_eq!(shown["code"], code, "{sent}\n{failed:#}");
    }
    let message = message.unwrap_or_else(|| body.trim().to_owned());
    let is_shown = shown["message"].as_str().is_some_and(|shown| shown.contains(&message));
    assert!(is_shown || message.is_empty() && shown["message"] == Value::Null, "{sent}\n{failed:#}");
    let id = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_id = ["x-amzn-requestid", "x-ms-request-id", "x-ms-correlation-request-id"];
        is_id.contains(&name.to_ascii_lowercase().as_str()).then_some(value)
    });
    if let Some(id) = id {
        assert_eq!(shown["request_id"], id, "{sent}\n{failed:#}");
    }
}

/// Parses the code and message by the format of each vendor's errors.
fn code_and_message(body: &str) -> (Option<String>, Option<String>) {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(text.replace("&apos;", "'").replace("&quot;", "\"").replace("&lt;", "<").replace("&amp;", "&"))
    };
    let Ok(body) = serde_json::from_str::<Value>(body) else { return (element("Code"), element("Message")) };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (code, message) = match &body {
        // ECR.
        body if body["__type"].is_string() => (&body["__type"], &body["message"]),
        // Registries.
        body if body["errors"].is_array() => (&body["errors"][0]["code"], &body["errors"][0]["message"]),
        // Entra.
        body if body["error_codes"].is_array() => {
            return (Some(format!("AADSTS{}", body["error_codes"][0])), text(&body["error_description"]));
        }
        // Google's APIs, and OAuth.
        body if body["error"].is_object() => (&body["error"]["status"], &body["error"]["message"]),
        body if body["error"].is_string() => (&body["error"], &body["error_description"]),
        _ => return (None, None),
    };
    (text(code), text(message))
}
