//! The likely fixes if a publication target fails, selected by the code or words in its error. The codes are
//! those of S3, of Google Cloud Storage's XML API and of Azure Blob Storage.

use crate::values::target_url::{ObjectService, TargetUrl};
use crate::values::tls_failure::{CertificateProblem, TlsFailure};

/// Returns the advice for an error, if there is any. `tls` is set if the TLS handshake failed.
pub(crate) fn advice(target: &TargetUrl, reason: &str, tls: Option<TlsFailure>) -> Option<String> {
    let TargetUrl::Objects { service, bucket, prefix } = target else {
        return of_folder(reason).map(ToOwned::to_owned);
    };
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let slash = if prefix.is_empty() { "" } else { "/" };
    let objects = format!("{bucket}/{prefix}{slash}.well-known/*");
    let advice = match service {
        _ if says(&["the endpoint is not https"]) => return None,
        _ if tls == Some(TlsFailure::Certificate(CertificateProblem::UnknownIssuer)) => {
            "the server's certificate is not trusted here: --ca-file names a file of the authority that gave it"
                .to_owned()
        }
        _ if says(&["tunnel error: proxy authorization required", "407 "]) => {
            "the proxy requires a login: set CARNET_PROXY to its URL with user name and password (carnet \
             sends them as Basic)"
                .to_owned()
        }
        _ if says(&["tunnel error: failed to create underlying connection"]) => {
            "this machine cannot reach the proxy that --proxy or CARNET_PROXY names: check its host and port"
                .to_owned()
        }
        _ if says(&["tunnel error"]) => {
            "the proxy opens no tunnel (CONNECT) to the store: its log shows the reason; ask its operators \
             to allow it"
                .to_owned()
        }
        _ if let Some(failure) = tls => super::tls::advice(failure, "store"),
        // The metadata service is the last source of credentials that is tried.
        ObjectService::S3 if says(&["169.254.", "fd00:ec2"]) => {
            "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and \
             AWS_SESSION_TOKEN), or run on a machine that has a role in AWS; profile files (~/.aws) are not \
             read"
                .to_owned()
        }
        ObjectService::S3 if says(&["NoSuchBucket"]) => {
            format!("create the bucket {bucket}, or name the right one; set AWS_REGION to its region")
        }
        ObjectService::S3
            if says(&[
                "without LOCATION",
                "PermanentRedirect",
                "AuthorizationHeaderMalformed",
                "IllegalLocationConstraint",
            ]) =>
        {
            format!("set AWS_REGION to the region of the bucket {bucket}")
        }
        ObjectService::S3 if says(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"]) => {
            "the credentials that were found are not valid, or no longer: check AWS_ACCESS_KEY_ID, \
             AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and the clock"
                .to_owned()
        }
        ObjectService::S3 if says(&["SecretAccessKey", "AccessKeyId"]) => {
            "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
        }
        ObjectService::S3 if says(&["NotImplemented", "501 "]) => {
            "this store does not support conditional writes (If-Match, If-None-Match), and without them an \
             older state could overwrite a newer one"
                .to_owned()
        }
        ObjectService::S3 if says(&["403 "]) => format!(
            "the credentials need s3:GetObject and s3:PutObject on {objects}, and s3:ListBucket on {bucket} \
             (without it S3 responds with 403 for an object that does not exist)"
        ),
        ObjectService::Google if says(&["169.254.169.254", "metadata.google.internal"]) => {
            "no credentials were found: set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file, \
             or run on a machine that has a service account in Google Cloud"
                .to_owned()
        }
        ObjectService::Google if says(&["NoSuchBucket"]) => {
            format!("create the bucket {bucket}, or name the right one")
        }
        ObjectService::Google if says(&["invalid_grant", "401 "]) => {
            "the credentials that were found are not valid, or no longer: check the service account's key, \
             and the clock"
                .to_owned()
        }
        ObjectService::Google if says(&["403 "]) => format!(
            "the service account needs storage.objects.get, storage.objects.create and \
             storage.objects.delete on {objects}: give it the role roles/storage.objectUser on the bucket"
        ),
        ObjectService::Azure if says(&["169.254.169.254"]) => {
            "no credentials were found: set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE \
             or AZURE_CLIENT_SECRET, or AZURE_STORAGE_ACCOUNT_KEY, or run on a machine that has a managed \
             identity in Azure"
                .to_owned()
        }
        ObjectService::Azure if says(&["Account must be specified", "dns error"]) => {
            "set AZURE_STORAGE_ACCOUNT_NAME to the storage account of the container".to_owned()
        }
        ObjectService::Azure if says(&["ContainerNotFound", "ContainerBeingDeleted"]) => {
            format!("create the container {bucket} in that storage account, or name the right one")
        }
        ObjectService::Azure if says(&["LeaseId"]) => {
            "another client holds a lease on the blob: wait until it ends, or break it".to_owned()
        }
        ObjectService::Azure if says(&["AuthenticationFailed", "InvalidAuthenticationInfo", "invalid_client", "401 "]) => {
            "the credentials that were found are not valid, or no longer: check the account's name and key \
             or the client's secret, and the clock"
                .to_owned()
        }
        ObjectService::Azure if says(&["403 "]) => format!(
            "the identity needs the role Storage Blob Data Contributor on the container {bucket}, and the \
             account's network rules must allow this machine's address"
        ),
        _ => return None,
    };
    Some(advice)
}

fn of_folder(reason: &str) -> Option<&'static str> {
    let table = [
        (
            "cannot be locked: timed out",
            "another process has been writing there for seconds: find out which one",
        ),
        (
            "Permission denied",
            "run this as a user that can write there, such as the user of `carnet serve`; the web server \
             needs read access only",
        ),
        (
            "Read-only file system",
            "the file system is mounted read-only: publish elsewhere, or mount it for writing",
        ),
        ("No space left", "free space on that file system"),
        ("No such file or directory", "create its parent folder: carnet creates only the last one"),
        ("is a symbolic link", "remove the link: carnet writes only to the folder itself"),
        ("is a folder, not a file", "remove that folder: a document must be written there"),
        ("is a file, not a folder", "remove that file, or name another folder"),
    ];
    table.into_iter().find(|(words, _)| reason.contains(words)).map(|(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_leads_to_its_fix() {
        let table = [
            (
                "s3://bucket/a",
                "403 Forbidden: AccessDenied: Access Denied",
                "s3:PutObject on bucket/a/.well-known/*",
            ),
            ("s3://bucket", "404 Not Found: NoSuchBucket: no", "create the bucket bucket"),
            (
                "s3://bucket",
                "PUT http://169.254.169.254/latest/api/token: no answer",
                "profile files (~/.aws) are not read",
            ),
            ("s3://bucket", "403 Forbidden: InvalidAccessKeyId: no", "AWS_SECRET_ACCESS_KEY"),
            ("s3://bucket", "Received redirect without LOCATION", "set AWS_REGION"),
            ("s3://bucket", "501 Not Implemented: NotImplemented: no", "not support conditional writes"),
            (
                "s3://bucket",
                "client error (Connect): tunnel error: proxy authorization required",
                "CARNET_PROXY",
            ),
            (
                "gs://bucket",
                "client error (Connect): tunnel error: failed to create underlying connection: tcp connect error",
                "the proxy that --proxy or CARNET_PROXY names",
            ),
            ("az://container", "client error (Connect): tunnel error: unsuccessful", "CONNECT"),
            ("gs://bucket", "403 Forbidden: AccessDenied: Access denied.", "roles/storage.objectUser"),
            (
                "gs://bucket",
                "GET http://metadata.google.internal/computeMetadata",
                "GOOGLE_APPLICATION_CREDENTIALS",
            ),
            (
                "az://container",
                "403 Forbidden: AuthorizationPermissionMismatch: no",
                "Storage Blob Data Contributor",
            ),
            ("az://container", "403 Forbidden: AuthenticationFailed: no", "the account's name and key"),
            ("az://container", "404 Not Found: ContainerNotFound: no", "create the container container"),
            ("az://container", "Account must be specified", "AZURE_STORAGE_ACCOUNT_NAME"),
            (
                "/srv/www",
                "/srv/www/x cannot be opened: Permission denied (os error 13)",
                "a user that can write there",
            ),
            ("/srv/www", "/srv/www/.well-known/jwks is a symbolic link, not a file", "remove the link"),
        ];
        for (target, reason, expected) in table {
            let advice = advice(&target.parse().unwrap(), reason, None).unwrap_or_default();
            assert!(advice.contains(expected), "{target} {reason}: {advice}");
        }
        for (failure, expected) in [
            (TlsFailure::Certificate(CertificateProblem::UnknownIssuer), "--ca-file names a file"),
            (TlsFailure::Certificate(CertificateProblem::OtherName), "is for another name"),
            (TlsFailure::Certificate(CertificateProblem::Expired), "the store's certificate renewed"),
            (TlsFailure::NotTls, "does not speak TLS"),
            (TlsFailure::Closed, "open the way to the store for TLS"),
        ] {
            let advice = advice(&"s3://bucket".parse().unwrap(), "x", Some(failure)).unwrap();
            assert!(advice.contains(expected) && !advice.contains("check again"), "{failure:?}: {advice}");
        }
        for target in ["s3://bucket", "gs://bucket", "az://container", "/srv/www"] {
            assert_eq!(
                advice(&target.parse().unwrap(), "500 Internal Server Error: InternalError: no", None),
                None
            );
        }
    }
}
