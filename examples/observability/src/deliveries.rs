//! What the webhook tells in its log, as metrics. A file to copy.
//!
//! | metric | labels | it is |
//! |---|---|---|
//! | `webhook_deliveries_total` | `outcome`, `status`, `code`, `credential` | one for each delivery |
//! | `webhook_lost_total` | | last attempts that were not acknowledged |
//! | `webhook_last_accepted_timestamp_seconds` | | when a delivery was last accepted, or this began |

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use metrics::{Label, SharedString, counter, gauge};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};

const DELIVERIES: &str = "webhook_deliveries_total";
const LOST: &str = "webhook_lost_total";
const LAST_ACCEPTED: &str = "webhook_last_accepted_timestamp_seconds";

/// The fields that have few values. `attempt_number` and `id` have many: they stay in the log.
const LABELS: [&str; 4] = ["outcome", "status", "code", "credential"];

/// What an alert waits for is there from the start: `increase` does not see a series begin.
const AWAITED: [[&str; 4]; 7] = [
    ["misconfigured", "500", "missing_layer", ""],
    ["unauthenticated", "401", "unauthorized", ""],
    ["accepted", "200", "", "0"],
    ["refused", "400", "missing_field", "0"],
    ["refused", "400", "invalid_field", "0"],
    ["failed", "500", "server_error", "0"],
    ["abandoned", "", "", "0"],
];

/// A layer that counts the deliveries of which `unsubscribe-webhook` tells, whatever the log shows.
/// Install the metrics' recorder first.
pub(crate) fn deliveries<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    for values in AWAITED {
        counter!(DELIVERIES, labels(values)).increment(0);
    }
    counter!(LOST).increment(0);
    gauge!(LAST_ACCEPTED).set(now());
    Deliveries.with_filter(Targets::new().with_target("unsubscribe_webhook", Level::DEBUG))
}

struct Deliveries;

impl<S: Subscriber> Layer<S> for Deliveries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut delivery = Delivery::default();
        event.record(&mut delivery);
        if delivery.is_last_attempt && *event.metadata().level() == Level::ERROR {
            counter!(LOST).increment(1);
        }
        if delivery.values[0] == "accepted" {
            gauge!(LAST_ACCEPTED).set(now());
        }
        counter!(DELIVERIES, labels(delivery.values)).increment(1);
    }
}

/// One delivery, by the values of its labels.
#[derive(Default)]
struct Delivery {
    values: [String; LABELS.len()],
    is_last_attempt: bool,
}

impl Visit for Delivery {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.is_last_attempt |= value && field.name() == "last_attempt";
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(label) = LABELS.iter().position(|label| *label == field.name()) {
            value.clone_into(&mut self.values[label]);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn labels(values: [impl Into<SharedString>; LABELS.len()]) -> Vec<Label> {
    LABELS.into_iter().zip(values).map(|(name, value)| Label::new(name, value)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "seconds are exact in a double for long")]
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs() as f64)
}
