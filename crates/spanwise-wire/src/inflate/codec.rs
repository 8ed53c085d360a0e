//! Each codec, bounded. Contexts are reused per thread and reset before use, so no data passes between requests.

use std::cell::RefCell;
use std::io::{Read, Write};

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use spanwise_model::limits::ZSTD_WINDOW_LOG_MAX;
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

pub(super) enum Failure {
    TooMuch,
    Corrupt(String),
}

type Inflated = Result<Vec<u8>, Failure>;
type Deflated = Result<Vec<u8>, String>;

/// First bytes of a framed snappy stream.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

fn corrupt(error: impl std::fmt::Display) -> Failure {
    Failure::Corrupt(error.to_string())
}

fn read_bounded(reader: impl Read, input: usize, limit: usize) -> Inflated {
    let mut out = Vec::with_capacity(input.saturating_mul(4).min(limit));
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(bound).read_to_end(&mut out).map_err(corrupt)?;
    if out.len() > limit { Err(Failure::TooMuch) } else { Ok(out) }
}

thread_local! {
    static GUNZIP: RefCell<libdeflater::Decompressor> = RefCell::new(libdeflater::Decompressor::new());
    static GZIP: RefCell<Option<(i32, libdeflater::Compressor)>> = const { RefCell::new(None) };
    static UNZSTD: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

/// One member of known size goes through libdeflate; several, or a size that does not hold, through the reader.
pub(super) fn gunzip(input: &[u8], limit: usize) -> Inflated {
    if let Some(size) = single_member_size(input).filter(|size| *size <= limit) {
        let mut out = vec![0; size];
        let inflated = GUNZIP.with_borrow_mut(|decompressor| decompressor.gzip_decompress(input, &mut out));
        if inflated == Ok(size) {
            return Ok(out);
        }
    }
    read_bounded(MultiGzDecoder::new(input), input.len(), limit)
}

/// The trailer's size, when nothing in the body looks like the start of a second member.
fn single_member_size(input: &[u8]) -> Option<usize> {
    const MEMBER: &[u8] = &[0x1f, 0x8b, 0x08];
    let (_, trailer) = input.split_last_chunk::<4>()?;
    let rest = input.get(MEMBER.len()..)?;
    if memchr::memmem::find(rest, MEMBER).is_some() {
        return None;
    }
    usize::try_from(u32::from_le_bytes(*trailer)).ok()
}

pub(super) fn undeflate(input: &[u8], limit: usize) -> Inflated {
    let is_zlib = matches!(input, [cmf, flags, ..]
        if cmf & 0x0f == 8 && (u32::from(*cmf) << 8 | u32::from(*flags)) % 31 == 0);
    match is_zlib {
        true => read_bounded(ZlibDecoder::new(input), input.len(), limit),
        false => read_bounded(DeflateDecoder::new(input), input.len(), limit),
    }
}

pub(super) fn unsnap(input: &[u8], limit: usize) -> Inflated {
    if input.starts_with(SNAPPY_STREAM) {
        return read_bounded(snap::read::FrameDecoder::new(input), input.len(), limit);
    }
    if input.is_empty() {
        return Ok(Vec::new());
    }
    if snap::raw::decompress_len(input).map_err(corrupt)? > limit {
        return Err(Failure::TooMuch);
    }
    snap::raw::Decoder::new().decompress_vec(input).map_err(corrupt)
}

/// The decoder takes the end of its input for the end of a frame, so that one cut between two blocks would pass.
pub(super) fn unlz4(input: &[u8], limit: usize) -> Inflated {
    const CONTENT_CHECKSUM: u8 = 1 << 2;
    let has_checksum = input.get(4).is_some_and(|flags| flags & CONTENT_CHECKSUM != 0);
    let end_mark = input.len().checked_sub(if has_checksum { 8 } else { 4 });
    if end_mark.and_then(|at| input.get(at..at + 4)).is_some_and(|mark| mark != [0; 4]) {
        return Err(corrupt("the last frame is truncated"));
    }
    read_bounded(lz4_flex::frame::FrameDecoder::new(input), input.len(), limit)
}

fn zstd_error(code: usize) -> Failure {
    corrupt(zstd_safe::get_error_name(code))
}

pub(super) fn unzstd(input: &[u8], limit: usize) -> Inflated {
    UNZSTD.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = DCtx::try_create();
        }
        let Some(context) = slot else { return Err(corrupt("no memory for a context")) };
        context.reset(ResetDirective::SessionAndParameters).map_err(zstd_error)?;
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(zstd_error)?;
        unzstd_with(context, input, limit)
    })
}

fn unzstd_with(context: &mut DCtx<'_>, input: &[u8], limit: usize) -> Inflated {
    let declared = zstd_safe::get_frame_content_size(input).ok().flatten().and_then(|size| usize::try_from(size).ok());
    let guess = declared.unwrap_or(input.len().saturating_mul(8)).min(limit);
    let mut out: Vec<u8> = Vec::with_capacity(guess.saturating_add(1));
    let mut source = InBuffer::around(input);
    loop {
        let written = out.len();
        // Sets the vector's length to what it wrote.
        let mut target = OutBuffer::around_pos(&mut out, written);
        let left_of_frame = context.decompress_stream(&mut target, &mut source).map_err(zstd_error)?;
        if out.len() > limit {
            return Err(Failure::TooMuch);
        }
        let input_done = source.pos() == input.len();
        if input_done && left_of_frame == 0 {
            break;
        }
        if out.len() < out.capacity() {
            if input_done {
                return Err(corrupt("the last frame is truncated"));
            }
            continue;
        }
        let larger = out.len().saturating_mul(2).min(limit.saturating_add(1));
        out.reserve_exact(larger.saturating_sub(out.len()));
    }
    // Memory is accounted by length.
    if out.capacity() - out.len() > out.len() / 8 + 1 {
        out.shrink_to_fit();
    }
    Ok(out)
}

pub(super) fn gzip(input: &[u8], level: i32) -> Deflated {
    GZIP.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            let level_of = libdeflater::CompressionLvl::new(level).map_err(|error| format!("{error:?}"))?;
            *slot = Some((level, libdeflater::Compressor::new(level_of)));
        }
        let Some((_, compressor)) = slot else { return Err("no memory for a context".to_owned()) };
        let mut out = vec![0; compressor.gzip_compress_bound(input.len())];
        let size = compressor.gzip_compress(input, &mut out).map_err(|error| format!("{error:?}"))?;
        out.truncate(size);
        Ok(out)
    })
}

pub(super) fn zlib(input: &[u8], level: i32) -> Deflated {
    let level = flate2::Compression::new(u32::try_from(level).unwrap_or(6).min(9));
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
    encoder.write_all(input).and_then(|()| encoder.finish()).map_err(|error| error.to_string())
}

pub(super) fn zstd(input: &[u8], level: i32) -> Deflated {
    ZSTD.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = CCtx::try_create();
        }
        let Some(context) = slot else { return Err("no memory for a context".to_owned()) };
        let name = |code| zstd_safe::get_error_name(code).to_owned();
        context.reset(ResetDirective::SessionAndParameters).map_err(name)?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(name)?;
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(input.len()));
        context.compress2(&mut out, input).map_err(name)?;
        Ok(out)
    })
}

pub(super) fn snap(input: &[u8]) -> Deflated {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(input).map_err(|error| error.to_string())?;
    encoder.into_inner().map_err(|error| error.to_string())
}

pub(super) fn lz4(input: &[u8]) -> Deflated {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(input).map_err(|error| error.to_string())?;
    encoder.finish().map_err(|error| error.to_string())
}
