//! The webhook's log events as metrics. A file to copy.
//!
//! | metric | labels | counts |
//! |---|---|---|
//! | `webhook_deliveries_total` | `outcome`, `status`, `code`, `cause`, `credential` | deliveries |
//! | `webhook_lost_total` | | last attempts that failed and whose opt-out was not kept |

use std::fmt;

use metrics::{Label, SharedString, counter};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};
use unsubscribe_webhook::Code;

const DELIVERIES: &str = "webhook_deliveries_total";
const LOST: &str = "webhook_lost_total";

/// The fields with few values. `attempt_number` and `id` have many, so they are in the log only.
const LABELS: [&str; 5] = ["outcome", "status", "code", "cause", "credential"];

/// A layer that counts deliveries, whatever level the log shows. `credentials` is how many `WebhookAuth`
/// accepts: 1, and one more for each `.or`. Install the metrics' recorder first.
pub(crate) fn deliveries<S>(credentials: usize) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    register(credentials);
    Deliveries.with_filter(Targets::new().with_target("unsubscribe_webhook", Level::DEBUG))
}

/// `increase` ignores the first sample of a series, so the series of the alert rules start at 0.
fn register(credentials: usize) {
    let register = |values: [&str; LABELS.len()]| {
        counter!(DELIVERIES, labels(values.map(str::to_owned))).increment(0);
    };
    counter!(LOST).increment(0);
    register(["misconfigured", "500", "missing_layer", "", ""]);
    for cause in ["absent", "wrong", "duplicate"] {
        register(["unauthenticated", "401", "unauthorized", cause, ""]);
    }
    for credential in 0..credentials {
        let credential = &*credential.to_string();
        register(["accepted", "200", "", "", credential]);
        register(["failed", "500", "server_error", "", credential]);
        register(["abandoned", "", "", "", credential]);
        for status in ["404", "405"] {
            register(["not_found", status, "", "", credential]);
        }
        for code in Code::ALL {
            if matches!(code.status().as_u16(), 400 | 403) && *code != Code::OtherEvent {
                register(["refused", code.status().as_str(), code.as_str(), "", credential]);
            }
        }
    }
}

struct Deliveries;

impl<S: Subscriber> Layer<S> for Deliveries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut delivery = Delivery::default();
        event.record(&mut delivery);
        let Delivery { values, is_last_attempt, is_kept } = delivery;
        if is_last_attempt && !is_kept && *event.metadata().level() == Level::ERROR {
            counter!(LOST).increment(1);
        }
        counter!(DELIVERIES, labels(values)).increment(1);
    }
}

/// The fields of one event.
#[derive(Default)]
struct Delivery {
    values: [String; LABELS.len()],
    is_last_attempt: bool,
    is_kept: bool,
}

impl Visit for Delivery {
    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "last_attempt" => self.is_last_attempt = value,
            "kept" => self.is_kept = value,
            _ => {}
        }
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
