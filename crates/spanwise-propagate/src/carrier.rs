//! What a context is read from and written to.

/// A set of named values that arrived: headers, metadata, a message's properties.
///
/// Names are compared without regard to case unless the carrier says otherwise. Values are bytes: whatever arrived.
pub trait Extract {
    /// Calls `each` with every name and value, in order of arrival.
    fn entries(&self, each: &mut dyn FnMut(&str, &[u8]));

    /// Calls `each` with every value of `name`, in order of arrival. `name` is in lower case.
    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.entries(&mut |found, value| {
            if found.eq_ignore_ascii_case(name) {
                each(value);
            }
        });
    }
}

/// A set of named values that will leave.
pub trait Inject {
    /// Sets `name`, in lower case, to the one value. Values are printable ASCII.
    fn set(&mut self, name: &'static str, value: &str);

    /// As [`set`](Self::set), for names that carry a baggage key. What cannot be a name here is left out.
    fn set_dynamic(&mut self, name: &str, value: &str);

    /// Removes `name`: a message that is passed on must not keep what the last hop said.
    fn remove(&mut self, name: &'static str);
}

/// How often a value came, and what it was.
pub(crate) enum Field<T> {
    Absent,
    /// More than one, or not legal.
    Broken,
    One(T),
}

/// Reads a value that must not be repeated.
pub(crate) fn one<T>(
    carrier: &(impl Extract + ?Sized),
    name: &str,
    mut parse: impl FnMut(&[u8]) -> Option<T>,
) -> Field<T> {
    let mut field = Field::Absent;
    carrier.values(name, &mut |value| {
        field = match field {
            Field::Absent if value.len() <= crate::limits::HEADER_BYTES => {
                parse(crate::text::trim_blanks(value)).map_or(Field::Broken, Field::One)
            }
            _ => Field::Broken,
        };
    });
    field
}
