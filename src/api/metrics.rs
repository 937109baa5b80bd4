//! `/metrics` in Prometheus' text format. Names and meanings are in `telemetry`; the values are collected when asked for.

use super::Watched;
use super::health::seconds_since;
use crate::intake::{IntakeError, SourceHealth};
use crate::record::outcome::Counts;
use crate::telemetry::{self, Metric};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;

/// Values of one metric, each with the values of its labels.
type Values = Vec<(Vec<String>, u64)>;

pub fn answer(watched: &Watched, now: Timestamp) -> Result<Response, IntakeError> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(collect(watched, now)?)));
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut page, &registry);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], page).into_response())
}

fn collect(watched: &Watched, now: Timestamp) -> Result<Vec<(Metric, Values)>, IntakeError> {
    let (states, waiting) = (watched.intake.source_states()?, watched.intake.waiting()?);
    let (free, reserve) = watched.intake.room()?;
    let (tallies, sources) = ((watched.tallies)(), (watched.sources)());
    let labels = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let mut rows: Values = Vec::new();
    let mut deliveries: Values = Vec::new();
    for tally in &tallies {
        let source = tally.source.as_str();
        rows.extend(outcomes(&tally.counts).map(|(outcome, count)| (labels(&[source, outcome]), count)));
        deliveries.extend(tally.ended.iter().map(|(state, count)| (labels(&[source, state]), *count)));
    }
    let bytes = tallies.iter().map(|tally| (labels(&[&tally.source]), tally.bytes)).collect();
    let of_state = |value: &dyn Fn(&crate::intake::SourceState) -> u64| -> Values {
        let configured = states.iter().filter(|state| sources.contains(&state.source));
        configured.map(|state| (labels(&[&state.source]), value(state))).collect()
    };
    let of_backlog = |value: &dyn Fn(&crate::intake::Backlog) -> u64| -> Values {
        let found = |name: &String| waiting.iter().find(|backlog| backlog.source == *name).map_or(0, value);
        sources.iter().map(|name| (labels(&[name]), found(name))).collect()
    };
    // Also of sources that are no longer configured: what they brought still waits.
    let mut stuck: BTreeMap<&str, u64> = sources.iter().map(|name| (name.as_str(), 0)).collect();
    for tally in tallies.iter().filter(|tally| tally.stuck > 0) {
        stuck.insert(&tally.source, tally.stuck);
    }
    let stuck = stuck.into_iter().map(|(source, count)| (labels(&[source]), count)).collect();
    Ok(vec![
        (telemetry::ROWS, rows),
        (telemetry::DELIVERIES, deliveries),
        (telemetry::BYTES, bytes),
        (telemetry::SOURCE_HEALTHY, of_state(&|state| u64::from(state.seen_whole() == SourceHealth::Ok))),
        (telemetry::SOURCE_SILENT, of_state(&|state| u64::from(state.silent_since.is_some()))),
        (telemetry::SOURCE_HEARD, of_state(&|state| u64::try_from(state.heard_at.as_second()).unwrap_or(0))),
        (telemetry::WAITING, of_backlog(&|backlog| backlog.deliveries)),
        (telemetry::STUCK, stuck),
        (telemetry::WAITING_BYTES, of_backlog(&|backlog| backlog.bytes)),
        (telemetry::LAG, of_backlog(&|backlog| seconds_since(backlog.oldest, now))),
        (telemetry::DISK_FREE, vec![(Vec::new(), free)]),
        (telemetry::DISK_RESERVE, vec![(Vec::new(), reserve)]),
    ])
}

fn outcomes(counts: &Counts) -> impl Iterator<Item = (&'static str, u64)> {
    [
        ("stored", counts.stored),
        ("duplicate", counts.duplicate),
        ("amended", counts.amended),
        ("rejected", counts.rejected),
        ("skipped", counts.skipped),
        ("held", counts.held),
    ]
    .into_iter()
}

/// Values as the library wants them.
#[derive(Debug)]
struct Collected(Vec<(Metric, Values)>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for (metric, values) in &self.0 {
            // The library adds what the format wants behind the name of a counter.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            for_each(&mut encoder, metric, name, values)?;
        }
        Ok(())
    }
}

fn for_each(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    name: &str,
    values: &Values,
) -> std::fmt::Result {
    use prometheus_client::metrics::MetricType;
    let kind = if metric.counter { MetricType::Counter } else { MetricType::Gauge };
    let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
    for (labels, value) in values {
        let pairs: Vec<(&str, &str)> =
            metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
        let labelled = family.encode_family(&pairs)?;
        if metric.counter {
            ConstCounter::new(*value).encode(labelled)?;
        } else {
            ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)).encode(labelled)?;
        }
    }
    Ok(())
}
