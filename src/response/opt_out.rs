//! Who unsubscribed, as plain data.

use std::fmt;

use uuid::Uuid;

/// A phone number to stop texting: what an event, or a body that breaks the contract, says.
///
/// [`UnsubscribeEvent::opt_out`](crate::UnsubscribeEvent::opt_out) and
/// [`Rejection::opt_out`](crate::Rejection::opt_out) make it, so that an app can treat both alike.
/// `Debug` hides the phone number.
///
/// ```
/// use unsubscribe_webhook::UnsubscribeEvent;
///
/// let event = UnsubscribeEvent::from_slice(include_bytes!("../../examples/event.json"))?;
/// let opt_out = event.opt_out();
/// assert_eq!(opt_out.phone, "+4911113333444");
/// assert_eq!(opt_out.user_id, Some(2));
/// assert_eq!(opt_out.id, Some(event.id));
/// # Ok::<_, unsubscribe_webhook::Rejection>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OptOut {
    /// The phone number, as the provider writes it.
    pub phone: String,
    /// The provider's account that the number belongs to, if it can be read.
    pub user_id: Option<i64>,
    /// The id of the event, if it can be read.
    pub id: Option<Uuid>,
}

impl fmt::Debug for OptOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptOut")
            .field("user_id", &self.user_id)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
