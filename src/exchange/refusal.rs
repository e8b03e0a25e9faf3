//! Parsed error responses of a provider, and their conversion to errors.

use bytes::Bytes;
use http::Response;

use super::upstream::{Redactor, Step, Upstream};
use super::{Call, ExchangeError, ExchangeFailure};
use crate::diagnosis::{Cause, Retry};

/// A refusal, as far as the response could be parsed.
#[derive(Default)]
pub(super) struct ProviderRefusal {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
}

/// The provider-specific advice about a refusal.
pub(super) struct Advice {
    /// The causes, most likely first; empty if the code is in no table.
    pub(super) causes: Vec<Cause>,
    /// The retry that the code suggests, or the message if the code has several meanings.
    pub(super) retry: Retry,
}

impl Call<'_> {
    /// Converts an unsuccessful response to an error.
    ///
    /// If the body has no request id, it is taken from the first of `id_headers` that is present.
    pub(super) fn refused(
        &self,
        step: Step,
        response: &Response<Bytes>,
        refusal: ProviderRefusal,
        redactor: &Redactor,
        id_headers: &[&str],
        advise: impl FnOnce(&Upstream) -> Advice,
    ) -> ExchangeError {
        let upstream = Upstream {
            code: redactor.optional(refusal.code.as_deref()),
            // For an unknown format, such as a proxy's page, the beginning of the body shows who sent it.
            message: match refusal.message {
                Some(message) => redactor.optional(Some(&message)),
                None => redactor.optional(Some(&String::from_utf8_lossy(response.body()))),
            },
            request_id: redactor
                .optional(refusal.request_id.as_deref())
                .or_else(|| id_headers.iter().find_map(|name| redactor.header(response, name))),
            ..Upstream::answered(step, response.status())
        };
        let Advice { causes, retry } = advise(&upstream);
        self.fail(step, ExchangeFailure::Refused(upstream)).advise(causes, retry)
    }
}
