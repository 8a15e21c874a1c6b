//! `dfs get` and `dfs cat`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use dfs_core::name::FilePath;
use indicatif::ProgressBar;

use crate::cli::args::{Cat, Get};
use crate::cli::fetch_tree::get_tree;
use crate::cli::http::Api;
use crate::cli::output::{Counted, Output, size, stdout_failed};
use crate::cli::paths::{self, remote};
use crate::cli::temp::Target;
use crate::exit::{Code, Failure, tell};

pub(super) fn get(api: &Api, get: &Get, out: &Output) -> Result<(), Failure> {
    if get.recursive {
        return get_tree(api, get, out);
    }
    let src = remote(&get.src)?;
    let base = src.base().unwrap_or_default().to_owned();
    let dst = match get.dst.as_deref() {
        Some(dst) if dst == "-" => return copy(api, &src, get.version.as_deref()),
        Some(dst) if dst.is_dir() => dst.join(base),
        Some(dst) => dst.to_owned(),
        None => PathBuf::from(base),
    };
    let bytes = get_file(api, &src, get.version.as_deref(), &dst, out)?;
    say(out, &src, bytes, &dst)
}

pub(super) fn cat(api: &Api, cat: &Cat) -> Result<(), Failure> {
    copy(api, &remote(&cat.path)?, cat.version.as_deref())
}

fn copy(api: &Api, src: &FilePath, version: Option<&str>) -> Result<(), Failure> {
    let first = api.open(src, version, 0)?;
    let mut stdout = std::io::stdout().lock();
    let mut sink = Sink { out: &mut stdout, failed: &stdout_failed };
    continue_from(api, src, first, &mut sink, &ProgressBar::hidden())?;
    stdout.flush().map_err(stdout_failed)
}

pub(super) fn get_file(
    api: &Api,
    src: &FilePath,
    version: Option<&str>,
    dst: &Path,
    out: &Output,
) -> Result<u64, Failure> {
    let unwritable = |error| paths::unwritable("write", dst, &error);
    // Asked before anything is created: a file that does not exist leaves no trace.
    let first = api.open(src, version, 0)?;
    let said = first.said.clone();
    let bar = out.bar(Some(first.bytes));
    let mut target = Target::open(dst).map_err(unwritable)?;
    let mut sink = Sink { out: &mut target, failed: &unwritable };
    let bytes = continue_from(api, src, first, &mut sink, &bar)?;
    bar.finish_and_clear();
    target.finish(&said).map_err(unwritable)?;
    Ok(bytes)
}

/// Where content goes, and what it means when it cannot be written there.
struct Sink<'a> {
    out: &'a mut dyn Write,
    failed: &'a dyn Fn(std::io::Error) -> Failure,
}

/// Copies a file. When a later chunk cannot be had, the node breaks the connection off, and when it
/// ends the connection breaks too. The rest of the same version is then asked for, of a node that
/// restarted or of another one. That answer has the reason, if there is one.
fn continue_from(
    api: &Api,
    src: &FilePath,
    first: crate::cli::http::Incoming,
    sink: &mut Sink<'_>,
    bar: &ProgressBar,
) -> Result<u64, Failure> {
    let (total, version) = (first.bytes, first.version.clone());
    if !first.guarded {
        tell(UNGUARDED_READ);
    }
    let (mut done, mut stalled) = (0, 0);
    let mut content = first.content;
    for _ in 0..RESUMES_MAX {
        let before = done;
        let mut counted = Counted { source: &mut content, bar };
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match counted.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    sink.out.write_all(&buffer[..read]).map_err(sink.failed)?;
                    done += read as u64;
                }
            }
        }
        if done == total {
            return Ok(total);
        }
        stalled = if done > before { 0 } else { stalled + 1 };
        if stalled == STALLED_MAX {
            break;
        }
        let rest = api.open(src, Some(&version), done)?;
        if (rest.bytes, &rest.version) != (total - done, &version) {
            let message = format!("{src}: the rest that the node has is not that of {version}");
            return Err(Failure::new(Code::Retryable, message));
        }
        content = rest.content;
    }
    Err(Failure::new(Code::Retryable, format!("{src}: the connection broke after {done} bytes")))
}

pub(super) fn say(out: &Output, src: &FilePath, bytes: u64, dst: &Path) -> Result<(), Failure> {
    if out.json {
        let value = serde_json::json!({
            "path": src.as_str(), "bytes": bytes, "file": dst.display().to_string(),
        });
        return out.object(&value);
    }
    tell(format_args!("fetched {src} ({}) to {}", size(bytes), dst.display()));
    Ok(())
}

/// How often a broken transfer is taken up again while it makes progress.
const RESUMES_MAX: usize = 100;
/// How often one may bring nothing.
const STALLED_MAX: usize = 3;
/// Bytes copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// Said of a file when too few gateways answered for its name.
const UNGUARDED_READ: &str = "note: too few of the gateways that hold this name answered; \
     a storage node could have hidden a newer version";
