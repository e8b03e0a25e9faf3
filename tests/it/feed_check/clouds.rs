//! The providers, for the command line and for the sandbox.

pub(crate) struct Cloud {
    /// The type of its feeds.
    pub(crate) kind: &'static str,
    /// Flags of `feed add`; text in braces is [filled in](crate::feed_check::world::World::filled).
    pub(crate) flags: &'static [&'static str],
    /// The path of the password in the sandbox's configuration.
    pub(crate) password: (&'static str, &'static str, &'static str),
    /// User name and password, in base64.
    pub(crate) login: &'static str,
    /// The registry for `feed setup`, if it accepts no other.
    pub(crate) setup_registry: Option<&'static str>,
}

pub(crate) const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
pub(crate) const CLIENT: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";

pub(crate) const AWS: Cloud = Cloud {
    kind: "aws-ecr",
    flags: &[
        "--role-arn=arn:aws:iam::123456789012:role/pull",
        "--registry={host}",
        "--endpoint=sts={url}/aws/sts",
        "--endpoint=ecr={url}/aws/ecr",
    ],
    password: ("aws", "password", "hunter2"),
    login: "QVdTOmh1bnRlcjI=",
    setup_registry: None,
};

pub(crate) const AWS_PUBLIC: Cloud = Cloud { kind: "aws-ecr-public", ..AWS };

pub(crate) const AZURE: Cloud = Cloud {
    kind: "azure-acr",
    flags: &[
        "--tenant-id=8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "--client-id=0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
        "--registry={host}",
        "--endpoint=authority={url}/azure/entra",
        "--endpoint=registry={url}/azure/acr",
    ],
    password: ("azure", "refresh_token", "e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln"),
    login: "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOmUzMC5leUpsZUhBaU9qUXhNREkwTkRRNE1EQjkuYzJsbg==",
    setup_registry: Some("images.azurecr.io"),
};

pub(crate) const GOOGLE: Cloud = Cloud {
    kind: "google-artifact-registry",
    flags: &[
        "--workload-identity-provider=projects/1/locations/global/workloadIdentityPools/pool/providers/carnet",
        "--service-account=pull@my-project.iam.gserviceaccount.com",
        "--registry={host}",
        "--endpoint=sts={url}/google/sts",
        "--endpoint=iamcredentials={url}/google/iamcredentials",
    ],
    password: ("google", "access_token", "hunter2"),
    login: "b2F1dGgyYWNjZXNzdG9rZW46aHVudGVyMg==",
    setup_registry: None,
};
