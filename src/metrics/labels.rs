//! Labels whose values are fixed in the source, and metrics with one series for each value.
//!
//! Every series exists from the start, at zero. So an alert sees the first failure as an increase, and no
//! later event adds a series.

use std::fmt;
use std::marker::PhantomData;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::registry::{Registry, Unit};

use crate::feed::FeedType;
use crate::jose::Algorithm;
use crate::signing_keys::State;

/// A label and all its values.
pub(super) trait Label: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values, each once.
    const ALL: &'static [Self];
    /// The text of a value.
    fn text(self) -> &'static str;

    fn index(self) -> usize {
        Self::ALL.iter().position(|label| *label == self).unwrap_or_default()
    }

    fn pair(self) -> (&'static str, &'static str) {
        (Self::NAME, self.text())
    }
}

/// Defines an enum that is a label.
macro_rules! labels {
    ($(#[$about:meta])* $vis:vis $name:ident is $label:literal { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $crate::metrics::labels::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}
pub(super) use labels;

impl Label for Algorithm {
    const NAME: &'static str = "alg";
    const ALL: &'static [Self] = &Self::ALL;

    fn text(self) -> &'static str {
        self.as_str()
    }
}

impl Label for FeedType {
    const NAME: &'static str = "provider";
    const ALL: &'static [Self] = &Self::ALL;

    fn text(self) -> &'static str {
        self.as_str()
    }
}

/// The label has only the states in which a key is published.
impl Label for State {
    const NAME: &'static str = "state";
    const ALL: &'static [Self] = &[Self::Prepared, Self::Active, Self::Retired];

    fn text(self) -> &'static str {
        self.as_str()
    }
}

/// A tuple of one or two labels.
pub(super) trait LabelSet: Copy {
    fn all() -> Vec<Self>;
    fn pairs(self) -> Pairs;
    /// The index in [`LabelSet::all`].
    fn index(self) -> usize;
}

/// The names and values of labels.
pub(super) type Pairs = Vec<(&'static str, &'static str)>;

impl<A: Label> LabelSet for (A,) {
    fn all() -> Vec<Self> {
        A::ALL.iter().map(|label| (*label,)).collect()
    }

    fn pairs(self) -> Pairs {
        vec![self.0.pair()]
    }

    fn index(self) -> usize {
        self.0.index()
    }
}

impl<A: Label, B: Label> LabelSet for (A, B) {
    fn all() -> Vec<Self> {
        A::ALL.iter().flat_map(|first| B::ALL.iter().map(|second| (*first, *second))).collect()
    }

    fn pairs(self) -> Pairs {
        vec![self.0.pair(), self.1.pair()]
    }

    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }
}

/// A metric with one series for every value of a label set. Access to a series takes no lock.
pub(super) struct Series<S, M> {
    metrics: Box<[M]>,
    labels: PhantomData<fn(S)>,
}

impl<S: LabelSet, M> Series<S, M>
where
    M: EncodeMetric + TypedMetric + fmt::Debug + Clone + Send + Sync + 'static,
{
    /// Registers the metric, with `unit` at the end of its name.
    pub(super) fn register(
        registry: &mut Registry,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        new: fn() -> M,
    ) -> Self
    where
        fn() -> M: MetricConstructor<M>,
    {
        let family = Family::<Pairs, M, fn() -> M>::new_with_constructor(new);
        let metrics =
            S::all().into_iter().map(|labels| family.get_or_create_owned(&labels.pairs())).collect();
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
        Self { metrics, labels: PhantomData }
    }

    /// Returns the series with these labels.
    pub(super) fn at(&self, labels: S) -> &M {
        &self.metrics[labels.index()]
    }
}

impl<S, M> fmt::Debug for Series<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Series({})", self.metrics.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_set_finds_its_own_index() {
        fn check<S: LabelSet>() {
            for (at, labels) in S::all().into_iter().enumerate() {
                assert_eq!(labels.index(), at, "{:?}", labels.pairs());
            }
        }
        check::<(Algorithm,)>();
        check::<(FeedType, Algorithm)>();
        check::<(Algorithm, State)>();
    }
}
