//! A refusal in the provider's own words, and how it is reported.

use bytes::Bytes;
use http::Response;

use super::upstream::{Redactor, Step, Upstream};
use super::{Call, ExchangeError, Failure};
use crate::knowledge::{Cause, Retry};

/// A refusal as far as the answer could be read.
#[derive(Default)]
pub(super) struct Refusal {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
}

/// What a provider's file knows about a refusal.
pub(super) struct Advice {
    /// What it most often means, most likely first; empty for what no table knows.
    pub(super) causes: Vec<Cause>,
    /// Whether its code, and where that stands for several things its message, says to try again.
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
