//! What an OTLP server answers and a client reads: `ExportTraceServiceResponse` and `google.rpc.Status`.

use std::time::Duration;

use crate::encode::{put_len_field, put_message, put_str, put_uint};
use crate::view::{FieldValue, Fields};

/// `google.rpc.Code`, as gRPC numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    pub fn from_number(number: u64) -> Code {
        usize::try_from(number).ok().and_then(|place| Code::ALL.get(place).copied()).unwrap_or(Code::Unknown)
    }

    /// How the collector's OTLP receiver says it in HTTP.
    pub fn http_status(self) -> u16 {
        match self {
            Code::Ok => 200,
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => 503,
            Code::ResourceExhausted => 429,
            Code::InvalidArgument => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::Unimplemented => 404,
            _ => 500,
        }
    }
}

/// `google.rpc.Status` with the one detail that OTLP gives a meaning: `RetryInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcStatus {
    pub code: Code,
    pub message: String,
    pub retry_after: Option<Duration>,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl RpcStatus {
    pub fn to_proto(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, 1, self.code as u64);
        put_str(&mut out, 2, &self.message);
        if let Some(delay) = self.retry_after {
            put_message(&mut out, 3, |any| {
                put_str(any, 1, RETRY_INFO);
                put_message(any, 2, |info| {
                    put_message(info, 1, |duration| {
                        put_uint(duration, 1, delay.as_secs());
                        put_uint(duration, 2, u64::from(delay.subsec_nanos()));
                    });
                });
            });
        }
        out
    }

    pub fn to_json(&self) -> String {
        serde_json::json!({"code": self.code as u8, "message": self.message}).to_string()
    }

    /// Reads what can be read; unknown details are passed over.
    pub fn from_proto(bytes: &[u8]) -> RpcStatus {
        let mut status = RpcStatus { code: Code::Ok, message: String::new(), retry_after: None };
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (1, FieldValue::Varint(code)) => status.code = Code::from_number(code),
                (2, value) => status.message = value.text().to_owned(),
                (3, FieldValue::Len(any)) => status.retry_after = retry_delay(any).or(status.retry_after),
                _ => {}
            }
        }
        status
    }
}

fn retry_delay(any: &[u8]) -> Option<Duration> {
    let mut fields = Fields::new(any);
    let type_url = fields.clone().find(|field| field.number == 1)?;
    if !type_url.value.text().ends_with("google.rpc.RetryInfo") {
        return None;
    }
    let info = fields.find(|field| field.number == 2)?.value.bytes();
    let duration = Fields::new(info).find(|field| field.number == 1)?.value.bytes();
    let number = |number| Fields::new(duration).find(|field| field.number == number).map_or(0, |f| f.value.uint());
    Some(Duration::from_secs(number(1)) + Duration::from_nanos(number(2).min(999_999_999)))
}

/// `partial_success` of an answer; empty when everything was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    pub rejected_spans: u64,
    pub message: String,
}

impl PartialSuccess {
    pub fn is_empty(&self) -> bool {
        self.rejected_spans == 0 && self.message.is_empty()
    }

    /// An `ExportTraceServiceResponse`.
    pub fn to_proto(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.is_empty() {
            let mut inner = Vec::new();
            put_uint(&mut inner, 1, self.rejected_spans);
            put_str(&mut inner, 2, &self.message);
            put_len_field(&mut out, 1, &inner);
        }
        out
    }

    pub fn to_json(&self) -> String {
        let mut inner = serde_json::Map::new();
        if !self.is_empty() {
            inner.insert("rejectedSpans".to_owned(), self.rejected_spans.to_string().into());
            inner.insert("errorMessage".to_owned(), self.message.clone().into());
        }
        serde_json::json!({"partialSuccess": inner}).to_string()
    }

    pub fn from_proto(bytes: &[u8]) -> PartialSuccess {
        let mut partial = PartialSuccess::default();
        for field in Fields::new(bytes).filter(|field| field.number == 1).flat_map(|f| Fields::new(f.value.bytes())) {
            match field.number {
                1 => partial.rejected_spans = field.value.uint(),
                2 => partial.message = field.value.text().to_owned(),
                _ => {}
            }
        }
        partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_written() {
        for retry_after in [None, Some(Duration::from_millis(1500)), Some(Duration::ZERO)] {
            let status = RpcStatus { code: Code::Unavailable, message: "busy".to_owned(), retry_after };
            assert_eq!(RpcStatus::from_proto(&status.to_proto()), status);
        }
    }

    #[test]
    fn an_answer_without_rejections_is_empty() {
        assert!(PartialSuccess::default().to_proto().is_empty());
        assert_eq!(PartialSuccess::default().to_json(), r#"{"partialSuccess":{}}"#);
        let partial = PartialSuccess { rejected_spans: 3, message: "bad ids".to_owned() };
        assert_eq!(PartialSuccess::from_proto(&partial.to_proto()), partial);
        assert_eq!(partial.to_json(), r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"bad ids"}}"#);
    }
}
