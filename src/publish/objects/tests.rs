use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::jose::Algorithm;
use crate::oidc::metadata::Documents;
use crate::values::issuer_url::IssuerUrl;
use crate::values::tls_failure::TlsFailure;

const SECRET_KEY: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

/// The requests that the server received: the head of each, unchanged.
type Requests = Arc<Mutex<Vec<String>>>;

/// Starts a server that sends the same response to every request and records the requests.
fn server(response: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Requests::default();
    let kept = Arc::clone(&requests);
    // Ends with the test process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap_or_default() > 2 {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let response = response(&head);
            kept.lock().unwrap().push(head);
            // The client may have closed the connection.
            let _ = client.write_all(&response);
        }
    });
    (address, requests)
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
        .into_bytes()
}

fn s3(address: &str, more: &[(&str, &str)], options: &TargetOptions) -> ObjectTarget {
    let endpoint = format!("http://{address}");
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2VjEXAMPLETOKEN"),
    ];
    let place = BucketPath { service: ObjectService::S3, bucket: "bucket", prefix: "a/b~c" };
    let variables =
        variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ObjectTarget::with_variables(place, options, variables).unwrap()
}

fn documents() -> Documents {
    let issuer: IssuerUrl = "https://issuer.example".parse().unwrap();
    Documents::new(&issuer, [], &Algorithm::ALL, Duration::from_secs(300)).unwrap()
}

fn label_17_2() -> Label {
    Label {
        issuer: "https://issuer.example".parse().unwrap(),
        generation: "17-2".parse().unwrap(),
        state: None,
        mac: Some("bWFj".to_owned()),
    }
}

async fn read(target: &ObjectTarget) -> Result<Option<Stored>, TargetError> {
    target.read(DocumentName::Jwks, &documents().jwks).await
}

async fn write(target: &ObjectTarget, over: Option<&Version>) -> Result<(), TargetError> {
    target.write(DocumentName::Jwks, &documents().jwks, &label_17_2(), over).await
}

/// Returns the value of a header.
fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[tokio::test]
async fn a_document_goes_with_its_headers_its_label_and_the_condition() {
    let (address, requests) = server(|_| response("200 OK", "ETag: \"new\"\r\n", ""));
    let target = s3(&address, &[], &TargetOptions::default());
    let old = Version { e_tag: Some("\"old\"".to_owned()), version: None };
    write(&target, None).await.unwrap();
    write(&target, Some(&old)).await.unwrap();

    let requests = requests.lock().unwrap();
    for request in requests.iter() {
        assert!(request.starts_with("PUT /bucket/a/b~c/.well-known/jwks HTTP/1.1"), "{request}");
        for (name, value) in [
            ("content-type", "application/json"),
            ("cache-control", "public, max-age=300"),
            ("x-amz-meta-carnetissuer", "https://issuer.example"),
            ("x-amz-meta-carnetgeneration", "17-2"),
            ("x-amz-meta-carnetmac", "bWFj"),
            ("content-length", "11"),
        ] {
            assert_eq!(header(request, name), Some(value), "{request}");
        }
    }
    let condition = |request: &str| {
        [header(request, "if-none-match"), header(request, "if-match")].map(|value| value.map(str::to_owned))
    };
    assert_eq!(condition(&requests[0]), [Some("*".to_owned()), None]);
    assert_eq!(condition(&requests[1]), [None, Some("\"old\"".to_owned())]);
}

#[tokio::test]
async fn the_condition_at_google_is_the_generation_that_was_read() {
    let (address, requests) = server(|head| {
        let headers = "ETag: \"1\"\r\nx-goog-generation: 7\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
                       x-goog-meta-carnetissuer: https://issuer.example\r\nx-goog-meta-carnetgeneration: 17-2\r\n\
                       x-goog-meta-carnetmac: bWFj\r\n";
        match head.starts_with("PUT") {
            true => response("412 Precondition Failed", "", ""),
            false => response("200 OK", headers, "{}"),
        }
    });
    let key = format!(
        r#"{{"gcs_base_url":"http://{address}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
    );
    let variables = [("GOOGLE_SERVICE_ACCOUNT_KEY", key.as_str()), ("GOOGLE_ALLOW_HTTP", "true")];
    let place = BucketPath { service: ObjectService::Google, bucket: "bucket", prefix: "a" };
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let target = ObjectTarget::with_variables(place, &TargetOptions::default(), variables).unwrap();

    let stored = read(&target).await.unwrap().unwrap();
    assert_eq!((stored.label, stored.version.version.as_deref()), (Some(label_17_2()), Some("7")));
    for over in [None, Some(&stored.version)] {
        assert_eq!(write(&target, over).await, Err(TargetError::Changed(DocumentName::Jwks)));
    }
    let requests = requests.lock().unwrap();
    let [_, made, replaced] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(header(made, "x-goog-if-generation-match"), Some("0"));
    assert_eq!(header(replaced, "x-goog-if-generation-match"), Some("7"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "public, max-age=300"),
        ("x-goog-meta-carnetissuer", "https://issuer.example"),
        ("x-goog-meta-carnetgeneration", "17-2"),
    ] {
        assert_eq!(header(replaced, name), Some(value), "{replaced}");
    }
}

#[tokio::test]
async fn a_document_is_read_with_its_headers_and_its_label_if_that_is_readable() {
    const WHOLE: &str = "ETag: \"1\"\r\nContent-Type: application/json\r\nCache-Control: public, max-age=300\r\n\
                         x-amz-meta-carnetissuer: https://issuer.example\r\nx-amz-meta-carnetgeneration: 17-2\r\n\
                         x-amz-meta-carnetmac: bWFj\r\n";
    let table = [
        (WHOLE.to_owned(), true, true),
        (WHOLE.replace("max-age=300", "max-age=301"), true, false),
        (WHOLE.replace("application/json", "binary/octet-stream"), true, false),
        (format!("{WHOLE}Content-Encoding: gzip\r\n"), true, false),
        (WHOLE.replace("17-2", "17"), false, true),
        (WHOLE.replace("https://issuer", "http://issuer"), false, true),
        ("ETag: \"1\"\r\n".to_owned(), false, false),
    ];
    for (headers, is_labelled, headers_fit) in table {
        let sent = headers.clone();
        let (address, _) = server(move |_| response("200 OK", &sent, "{}"));
        let stored = read(&s3(&address, &[], &TargetOptions::default())).await.unwrap().unwrap();
        assert_eq!(stored.body, "{}");
        assert_eq!(stored.label, is_labelled.then(label_17_2), "{headers}");
        assert_eq!(stored.headers_fit, headers_fit, "{headers}");
        assert_eq!(stored.version.e_tag.as_deref(), Some("\"1\""));
    }
}

#[tokio::test]
async fn a_missing_document_is_absent_and_a_missing_bucket_an_error() {
    for (code, expected) in [("NoSuchKey", true), ("NoSuchBucket", false)] {
        let body = format!("<Error><Code>{code}</Code><Message>It is not there.</Message></Error>");
        let (address, _) = server(move |_| response("404 Not Found", "", &body));
        match read(&s3(&address, &[], &TargetOptions::default())).await {
            Ok(stored) => assert_eq!((stored, expected), (None, true)),
            Err(error) => {
                assert!(!expected, "{error}");
                let path = format!("GET http://{address}/bucket/a/b~c/.well-known/jwks");
                assert_eq!(
                    error.to_string(),
                    format!(
                        ".well-known/jwks at s3://bucket/a/b~c: {path}: 404 Not Found: NoSuchBucket: It is not there."
                    )
                );
            }
        }
    }
}

#[tokio::test]
async fn a_condition_that_is_not_met_is_a_change_and_a_lease_is_not() {
    for (status, code, is_change) in [
        ("412 Precondition Failed", "PreconditionFailed", true),
        ("404 Not Found", "NoSuchKey", true),
        ("412 Precondition Failed", "LeaseIdMissing", false),
        ("403 Forbidden", "AccessDenied", false),
    ] {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        let (address, _) = server(move |_| response(status, "", &body));
        let over = Version { e_tag: Some("\"1\"".to_owned()), version: None };
        let error = write(&s3(&address, &[], &TargetOptions::default()), Some(&over)).await.unwrap_err();
        assert_eq!(error == TargetError::Changed(DocumentName::Jwks), is_change, "{code}: {error}");
    }
}

/// Tests a store that repeats the whole request in its response, by accident or on purpose.
#[tokio::test]
async fn no_secret_of_a_request_is_in_an_error() {
    let (address, requests) = server(|head| {
        let echo = head.replace(['<', '>', '&'], " ");
        let body = format!(
            "<Error><Code>SignatureDoesNotMatch</Code><Message>You said {echo}</Message><StringToSign>{echo}</StringToSign></Error>"
        );
        response("403 Forbidden", "", &body)
    });
    let target = s3(&address, &[], &TargetOptions::default());
    let errors = [read(&target).await.unwrap_err(), write(&target, None).await.unwrap_err()];
    let requests = requests.lock().unwrap();
    for (error, request) in errors.iter().zip(requests.iter()) {
        let text = format!("{error} {error:?} {target:?}");
        assert!(text.contains("SignatureDoesNotMatch"), "{text}");
        let authorization = header(request, "authorization").unwrap();
        let (_, signature) = authorization.split_once("Signature=").unwrap();
        for secret in [signature, "IQoJb3JpZ2luX2VjEXAMPLETOKEN", SECRET_KEY, "AKIAIOSFODNN7EXAMPLE"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[tokio::test]
async fn a_shared_access_signature_is_in_no_error() {
    let (address, requests) = server(|_| response("403 Forbidden", "", "<html>no</html>"));
    for (address, responses) in [(address.as_str(), true), ("127.0.0.1:1", false)] {
        let endpoint = format!("http://{address}/account");
        let variables = [
            ("AZURE_STORAGE_ENDPOINT", endpoint.as_str()),
            ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
            ("AZURE_ALLOW_HTTP", "true"),
            ("AZURE_STORAGE_SAS_KEY", "sv=2024-11-04&sig=aGVsbG8gd29ybGQgaGVsbG8%2Bd29ybGQ%3D"),
        ];
        let place = BucketPath { service: ObjectService::Azure, bucket: "container", prefix: "" };
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let target = ObjectTarget::with_variables(place, &TargetOptions::default(), variables).unwrap();
        let error = read(&target).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("sig=") && !text.contains("aGVsbG8"), "{text}");
        assert_eq!(text.contains("403 Forbidden"), responses, "{text}");
    }
    assert!(requests.lock().unwrap()[0].contains("sig="), "it was not sent either");
}

#[tokio::test]
async fn a_document_of_any_length_is_read_to_the_limit_only() {
    for (length, whole) in [(LONGEST_DOCUMENT, true), (LONGEST_DOCUMENT + 1, false), (50_000_000, false)] {
        let (address, _) = server(move |_| {
            response(
                "200 OK",
                "ETag: \"1\"\r\nx-amz-meta-carnetissuer: https://issuer.example\r\nx-amz-meta-carnetgeneration: 17-2\r\n\
                         x-amz-meta-carnetmac: bWFj\r\n",
                &" ".repeat(length),
            )
        });
        let stored = read(&s3(&address, &[], &TargetOptions::default())).await.unwrap().unwrap();
        assert_eq!(stored.body.len(), if whole { length } else { 0 });
        assert_eq!(stored.label.is_some(), whole);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, followed) = server(|_| response("200 OK", "ETag: \"1\"\r\n", "{}"));
    let (address, _) = server(move |_| {
        response("307 Temporary Redirect", &format!("Location: http://{elsewhere}/\r\n"), "")
    });
    let error = read(&s3(&address, &[], &TargetOptions::default())).await.unwrap_err().to_string();
    assert!(error.contains("307 Temporary Redirect"), "{error}");
    assert!(followed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn plain_http_has_to_be_allowed() {
    let (address, requests) = server(|_| response("200 OK", "ETag: \"1\"\r\n", "{}"));
    let target = s3(&address, &[("AWS_ALLOW_HTTP", "false")], &TargetOptions::default());
    let error = read(&target).await.unwrap_err().to_string();
    assert!(error.contains("the endpoint is not https; AWS_ALLOW_HTTP=true"), "{error}");
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_was_named_but_not_those_to_this_machine() {
    let (proxy, proxied) = server(|_| response("404 Not Found", "", ""));
    let (address, direct) = server(|_| response("404 Not Found", "", ""));
    let options =
        TargetOptions { proxy: Some(format!("http://{proxy}").parse().unwrap()), extra_ca_pem: None };
    read(&s3("objects.example", &[], &options)).await.unwrap();
    read(&s3(&address, &[], &options)).await.unwrap();
    let proxied = proxied.lock().unwrap();
    assert_eq!(proxied.len(), 1);
    assert!(
        proxied[0].starts_with("GET http://objects.example/bucket/a/b~c/.well-known/jwks"),
        "{}",
        proxied[0]
    );
    assert_eq!(direct.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn no_form_of_a_login_that_a_proxy_repeats_stands_in_an_error() {
    let (proxy, _) = server(|head| {
        let said = format!("you said {} us@er", header(head, "proxy-authorization").unwrap());
        response("403 Forbidden", "", &format!("<Error><Code>Denied</Code><Message>{said}</Message></Error>"))
    });
    let proxy = Some(format!("http://us%40er:hun%2Bter2@{proxy}").parse().unwrap());
    let error =
        read(&s3("store.example", &[], &TargetOptions { proxy, extra_ca_pem: None })).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("Denied: you said Basic [redacted] [redacted]"), "{shown}");
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_is_reported_as_the_proxy() {
    for (status, word) in [("407 x", "set CARNET_PROXY"), ("403 x", "opens no tunnel")] {
        let (proxy, _) = server(move |_| response(status, "", ""));
        let options =
            TargetOptions { proxy: Some(format!("http://{proxy}").parse().unwrap()), extra_ca_pem: None };
        let target = s3("x", &[("AWS_ENDPOINT_URL", "https://objects.example")], &options);
        let error = read(&target).await.unwrap_err().to_string();
        let advice = crate::diagnosis::target::advice(&"s3://bucket".parse().unwrap(), &error, None);
        assert!(advice.as_ref().is_some_and(|advice| advice.contains(word)), "{error}: {advice:?}");
    }
}

#[tokio::test]
async fn a_failed_handshake_with_the_store_is_told_by_its_type() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    // Ends with the test process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(&response("400 Bad Request", "", ""));
        }
    });
    let target = s3("x", &[("AWS_ENDPOINT_URL", endpoint.as_str())], &TargetOptions::default());
    let TargetError::Failed { tls, .. } = read(&target).await.unwrap_err() else { panic!() };
    assert_eq!(tls, Some(TlsFailure::NotTls));
}

#[tokio::test]
async fn missing_environment_variables_are_reported_before_any_request() {
    let open = |service, variables: &[(&str, &str)]| {
        let place = BucketPath { service, bucket: "bucket", prefix: "" };
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let opened = ObjectTarget::with_variables(place, &TargetOptions::default(), variables.into_iter());
        opened.map(drop).unwrap_err().to_string()
    };
    let error = open(ObjectService::S3, &[("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")]);
    assert!(error.contains("s3://bucket") && error.contains("SecretAccessKey"), "{error}");
    let error = open(ObjectService::Azure, &[]);
    assert!(error.contains("az://bucket") && error.contains("Account"), "{error}");
    let error = open(ObjectService::Google, &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/at-all.json")]);
    assert!(error.contains("gs://bucket") && error.contains("/nowhere/at-all.json"), "{error}");
    // An invalid key is not repeated in the error.
    let error =
        open(ObjectService::Google, &[("GOOGLE_SERVICE_ACCOUNT_KEY", "{\"private_key\": \"hunter2\"")]);
    assert!(!error.contains("hunter2"), "{error}");
}
