//! What the webhook tells in its log, as metrics. A file to copy.
//!
//! | metric | labels | it is |
//! |---|---|---|
//! | `webhook_deliveries_total` | `outcome`, `status`, `code`, `credential` | one for each delivery |
//! | `webhook_lost_total` | | last attempts that were not acknowledged |

use std::fmt;

use metrics::{Label, SharedString, counter};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};

const DELIVERIES: &str = "webhook_deliveries_total";
const LOST: &str = "webhook_lost_total";

/// The fields that have few values. `attempt_number` and `id` have many: they stay in the log.
const LABELS: [&str; 4] = ["outcome", "status", "code", "credential"];

/// The codes of an authentic delivery that is refused, each with its status.
const REFUSALS: [(&str, &str); 9] = [
    ("forbidden", "403"),
    ("foreign_account", "403"),
    ("content_type", "400"),
    ("body_too_large", "400"),
    ("body_incomplete", "400"),
    ("not_json", "400"),
    ("missing_field", "400"),
    ("invalid_field", "400"),
    ("duplicate_field", "400"),
];

/// A layer that counts the deliveries of which `unsubscribe-webhook` tells, whatever the log shows.
/// `credentials` is how many `WebhookAuth` accepts: 1, and one more for each `.or`. Install the
/// metrics' recorder first.
pub(crate) fn deliveries<S>(credentials: usize) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    begin(credentials);
    Deliveries.with_filter(Targets::new().with_target("unsubscribe_webhook", Level::DEBUG))
}

/// What an alert waits for is there from the start: `increase` does not see a series begin.
fn begin(credentials: usize) {
    let begin = |values: [&str; 4]| {
        counter!(DELIVERIES, labels(values.map(str::to_owned))).increment(0);
    };
    counter!(LOST).increment(0);
    begin(["misconfigured", "500", "missing_layer", ""]);
    begin(["unauthenticated", "401", "unauthorized", ""]);
    for credential in 0..credentials {
        let credential = &*credential.to_string();
        begin(["accepted", "200", "", credential]);
        begin(["failed", "500", "server_error", credential]);
        begin(["abandoned", "", "", credential]);
        for (code, status) in REFUSALS {
            begin(["refused", status, code, credential]);
            // By a handler that puts the body aside and acknowledges it.
            begin(["refused", "200", code, credential]);
        }
    }
}

struct Deliveries;

impl<S: Subscriber> Layer<S> for Deliveries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut delivery = Delivery::default();
        event.record(&mut delivery);
        if delivery.is_last_attempt && *event.metadata().level() == Level::ERROR {
            counter!(LOST).increment(1);
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
