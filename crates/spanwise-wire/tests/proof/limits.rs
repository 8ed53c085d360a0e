//! Every limit of the parsers, at the limit and one past it.

use bytes::Bytes;
use spanwise_model::{Limits, limits};
use spanwise_wire::encode::{put_len_field, put_message, put_tag, put_varint};
use spanwise_wire::import::import;
use spanwise_wire::inflate::{Encoding, InflateError, deflate, inflate};
use spanwise_wire::json::otlp_json_to_proto;
use spanwise_wire::{Batch, Malformed};

use crate::oracle::wide;

/// A request of these span bodies under one resource and scope.
fn request(spans: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |resource| {
        put_message(resource, 2, |scope| spans.into_iter().for_each(|span| put_len_field(scope, 2, &span)));
    });
    out
}

fn span(attribute_value: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    put_len_field(&mut out, 1, &[7; 16]);
    put_len_field(&mut out, 2, &[9; 8]);
    if let Some(value) = attribute_value {
        put_message(&mut out, 9, |attribute| {
            put_len_field(attribute, 1, b"k");
            put_len_field(attribute, 2, value);
        });
    }
    out
}

fn parse(bytes: Vec<u8>, limits: &Limits) -> Result<(usize, u64), Malformed> {
    Batch::parse(Bytes::from(bytes), limits).map(|parsed| (parsed.batch.len_spans(), parsed.rejected.spans))
}

#[test]
fn message_bytes_at_the_limit_and_one_past_it() {
    let bytes = request([span(None)]);
    let at = Limits::with_message_bytes(bytes.len());
    let past = Limits::with_message_bytes(bytes.len() - 1);
    let too_large = Malformed::TooLarge { bytes: bytes.len(), limit: bytes.len() - 1 };
    assert_eq!(parse(bytes.clone(), &at), Ok((1, 0)));
    assert_eq!(parse(bytes, &past), Err(too_large));
    let json = b"{\"resourceSpans\":[]}";
    assert!(otlp_json_to_proto(json, &Limits::with_message_bytes(json.len())).is_ok());
    let refused = otlp_json_to_proto(json, &Limits::with_message_bytes(json.len() - 1));
    assert!(refused.is_err_and(|error| error.is_limit()));
}

#[test]
fn request_spans_at_the_limit_and_one_past_it() {
    let limits = Limits { spans: limits::REQUEST_SPANS, ..wide() };
    let of = |count| parse(request(std::iter::repeat_n(span(None), count)), &limits);
    assert_eq!(of(limits::REQUEST_SPANS), Ok((limits::REQUEST_SPANS, 0)));
    assert_eq!(of(limits::REQUEST_SPANS + 1), Err(Malformed::TooManySpans { limit: limits::REQUEST_SPANS }));
}

#[test]
fn request_groups_at_the_limit_and_one_past_it() {
    let limits = Limits { groups: limits::REQUEST_GROUPS, ..wide() };
    let of = |count| parse([0x0a, 0x00].repeat(count), &limits);
    assert_eq!(of(limits::REQUEST_GROUPS), Ok((0, 0)));
    let refused = of(limits::REQUEST_GROUPS + 1).unwrap_err();
    assert_eq!(refused, Malformed::TooManyGroups { limit: limits::REQUEST_GROUPS });
    assert!(refused.is_limit());
}

/// An `AnyValue` of this many levels; a level is a list (5) or a map (6).
fn nested(levels: usize, kind: u32) -> Vec<u8> {
    let mut value = vec![0x10, 0x01];
    for _ in 1..levels {
        let mut outer = Vec::new();
        put_message(&mut outer, kind, |list| match kind {
            5 => put_len_field(list, 1, &value),
            _ => put_message(list, 1, |entry| put_len_field(entry, 2, &value)),
        });
        value = outer;
    }
    value
}

#[test]
fn value_depth_at_the_limit_and_one_past_it() {
    for kind in [5, 6] {
        let of = |levels| parse(request([span(Some(&nested(levels, kind))), span(None)]), &wide());
        assert_eq!(of(limits::VALUE_DEPTH), Ok((2, 0)));
        // The span goes alone.
        assert_eq!(of(limits::VALUE_DEPTH + 1), Ok((1, 1)));
        assert_eq!(of(10_000), Ok((1, 1)));
    }
}

#[test]
fn group_depth_at_the_limit_and_one_past_it() {
    let of = |depth| {
        let mut groups = Vec::new();
        (0..depth).for_each(|_| put_tag(&mut groups, 99, 3));
        (0..depth).for_each(|_| put_tag(&mut groups, 99, 4));
        let mut body = span(None);
        body.extend(groups);
        parse(request([body]), &wide())
    };
    assert_eq!(of(limits::GROUP_DEPTH), Ok((1, 0)));
    assert!(matches!(of(limits::GROUP_DEPTH + 1), Err(Malformed::Group { .. })));
    assert!(matches!(of(100_000), Err(Malformed::Group { .. })));
}

/// `zeros` bytes as zstd in exactly `len` bytes, filled up by a frame that decoders skip.
fn zstd_of(zeros: usize, len: usize) -> Bytes {
    let mut body = deflate(Encoding::Zstd, None, &Bytes::from(vec![0; zeros])).unwrap().to_vec();
    let filler = len.checked_sub(body.len() + 8).expect("room for a frame");
    body.extend_from_slice(&0x184d_2a50_u32.to_le_bytes());
    body.extend_from_slice(&u32::try_from(filler).unwrap().to_le_bytes());
    body.resize(len, 0);
    body.into()
}

#[test]
fn inflate_ratio_at_the_limit_and_one_past_it() {
    let len = 2_000;
    let most = len * limits::INFLATE_RATIO;
    assert!(most > limits::INFLATE_RATIO_FREE_BYTES);
    assert_eq!(inflate(Encoding::Zstd, &zstd_of(most, len), most).unwrap().len(), most);
    let refused = inflate(Encoding::Zstd, &zstd_of(most + 1, len), most + 1);
    assert_eq!(refused, Err(InflateError::Ratio { compressed: len }));
}

#[test]
fn inflate_ratio_free_bytes_at_the_limit_and_one_past_it() {
    let free = limits::INFLATE_RATIO_FREE_BYTES;
    let of = |zeros| deflate(Encoding::Zstd, None, &Bytes::from(vec![0; zeros])).unwrap();
    assert!(of(free + 1).len() * limits::INFLATE_RATIO < free);
    assert_eq!(inflate(Encoding::Zstd, &of(free), usize::MAX).unwrap().len(), free);
    let past = of(free + 1);
    assert_eq!(inflate(Encoding::Zstd, &past, usize::MAX), Err(InflateError::Ratio { compressed: past.len() }));
}

#[test]
fn zstd_window_log_max_at_the_limit_and_one_past_it() {
    let of = |window_log: u32| {
        let descriptor = u8::try_from((window_log - 10) << 3).unwrap();
        // Magic, no content size and no single segment, the window, an empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, descriptor, 0x01, 0x00, 0x00];
        inflate(Encoding::Zstd, &Bytes::copy_from_slice(&frame), 1 << 20)
    };
    assert_eq!(of(limits::ZSTD_WINDOW_LOG_MAX), Ok(Bytes::new()));
    assert!(matches!(of(limits::ZSTD_WINDOW_LOG_MAX + 1), Err(InflateError::Corrupt { .. })));
}

#[test]
fn import_record_bytes_at_the_limit_and_one_past_it() {
    let reason_of = |len: usize| {
        let spaces = Bytes::from(vec![b' '; len]);
        let file = deflate(Encoding::Gzip, Some(1), &spaces).unwrap();
        drop(spaces);
        import(&file).reasons.pop().map(|(reason, _)| reason).unwrap_or_default()
    };
    assert_eq!(reason_of(limits::IMPORT_RECORD_BYTES), "the file is empty");
    let refused = reason_of(limits::IMPORT_RECORD_BYTES + 1);
    assert!(refused.contains("inflates to more than"), "{refused}");
}

#[test]
fn varints_at_ten_bytes_and_one_past_them() {
    let of = |varint: &[u8]| {
        let mut body = span(None);
        put_tag(&mut body, 10, 0);
        body.extend_from_slice(varint);
        parse(request([body]), &wide())
    };
    let mut largest = Vec::new();
    put_varint(&mut largest, u64::MAX);
    assert_eq!(of(&largest), Ok((1, 0)));
    assert!(of(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
    assert!(of(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).is_err());
}
