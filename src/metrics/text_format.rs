//! The two text formats that scrapers accept.

use std::collections::HashMap;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format, version 0.0.4, which every tool reads.
    Prometheus,
}

impl TextFormat {
    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns the format for a request with these `Accept` headers: OpenMetrics if a header names it and
    /// prefers nothing else, otherwise the Prometheus format.
    #[must_use]
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut open_metrics, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.into_iter().flat_map(|header| header.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match (media_type.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => {
                    open_metrics = open_metrics.max(quality);
                }
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(quality),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= text { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// Converts OpenMetrics to the Prometheus format: comments on counters and infos name their samples, and
/// there are no units and no end marker.
pub(super) fn as_prometheus(open_metrics: &str) -> String {
    let types: HashMap<&str, &str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ").and_then(|described| described.split_once(' ')))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        match line.strip_prefix("# ") {
            None => text.push_str(line),
            Some(comment) => match described(comment, &types) {
                Some(described) => text.push_str(&described),
                None => continue,
            },
        }
        text.push('\n');
    }
    text
}

fn described(comment: &str, types: &HashMap<&str, &str>) -> Option<String> {
    let (what, rest) = comment.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    match (what, *types.get(name)?) {
        ("UNIT", _) => None,
        (_, "counter") => Some(format!("# {what} {name}_total {rest}")),
        ("TYPE", "info") => Some(format!("# TYPE {name}_info gauge")),
        (_, "info") => Some(format!("# {what} {name}_info {rest}")),
        _ => Some(format!("# {comment}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_sent_only_if_the_request_names_it() {
        use TextFormat::{OpenMetrics, Prometheus};
        for (accept, format) in [
            (&[][..], Prometheus),
            (&["*/*"], Prometheus),
            (&["text/plain"], Prometheus),
            (&["application/json"], Prometheus),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text; version=1.0.0, */*"], OpenMetrics),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ],
                OpenMetrics,
            ),
            (&["text/plain;version=0.0.4;q=0.5", "Application/OpenMetrics-Text; q=0.6"], OpenMetrics),
            (&["text/plain, application/openmetrics-text;q=0.5"], Prometheus),
            (&["application/openmetrics-text;q=0"], Prometheus),
            (&["application/openmetrics-text;version=2.0.0,text/plain;q=0.1"], Prometheus),
            // The header that Prometheus 3 sends.
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;\
                   version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ],
                OpenMetrics,
            ),
        ] {
            assert_eq!(TextFormat::accepted(accept.iter().copied()), format, "{accept:?}");
        }
    }

    #[test]
    fn counters_and_infos_are_described_by_their_samples() {
        let open_metrics = "# HELP a_b How long.\n# TYPE a_b counter\n# UNIT a_b seconds\na_b_total{x=\"# TYPE\"} 1\n\
                            # HELP v Version.\n# TYPE v info\nv_info{version=\"1\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n# EOF\n";
        let text = "# HELP a_b_total How long.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE\"} 1\n# HELP v_info Version.\n\
                    # TYPE v_info gauge\nv_info{version=\"1\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n";
        assert_eq!(as_prometheus(open_metrics), text);
    }
}
