//! A refusal in the provider's own words, and how it is reported.

use bytes::Bytes;
use http::Response;

use super::upstream::{Redactor, Step, Upstream};
use super::{Call, ExchangeError, Failure};
use crate::diagnosis::{Cause, Retry};

/// A refusal as far as the answer could be read.
#[derive(Default)]
pub(super) struct Refusal {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
}

/// What a provider's file knows about a refusal.
pub(super) struct Advice {
    /// The causes, most likely first; empty for a code that is in no table.
    pub(super) causes: Vec<Cause>,
    /// The retry that the code asks for, or the message where a code stands for several things.
    pub(super) retry: Retry,
}

impl Call<'_> {
    /// Reports an answer that is no success.
    ///
    /// Of `id_headers` the first that is there names the request, if the body does not.
    pub(super) fn refused(
        &self,
        step: Step,
        answer: &Response<Bytes>,
        refusal: Refusal,
        redactor: &Redactor<'_>,
        id_headers: &[&str],
        advise: impl FnOnce(&Upstream) -> Advice,
    ) -> ExchangeError {
        let upstream = Upstream {
            code: redactor.optional(refusal.code.as_deref()),
            // An answer in no known form, a proxy's page: its beginning tells whose it is.
            message: match refusal.message {
                Some(message) => redactor.optional(Some(&message)),
                None => redactor.optional(Some(&String::from_utf8_lossy(answer.body()))),
            },
            request_id: redactor
                .optional(refusal.request_id.as_deref())
                .or_else(|| id_headers.iter().find_map(|name| redactor.header(answer, name))),
            ..Upstream::answered(step, answer.status())
        };
        let Advice { causes, retry } = advise(&upstream);
        self.fail(step, Failure::Refused(upstream)).advise(causes, retry)
    }
}
