//! Remote paths: what a file may be called.

use std::fmt;

/// A checked path inside a vault: components joined by `/`. The empty path is the root directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

/// Why a text is not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing to name.
    #[error("the name is empty")]
    Empty,
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("the name is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// A component longer than [`COMPONENT_BYTES_MAX`].
    #[error("the name has a component of more than {COMPONENT_BYTES_MAX} bytes")]
    LongComponent,
    /// Two slashes in a row, or one at the end.
    #[error("the name has an empty component (two slashes, or one at the end)")]
    EmptyComponent,
    /// A `.` or `..` component.
    #[error("the name has a '.' or '..' component")]
    Dots,
    /// NUL, which no file system takes.
    #[error("the name has a NUL character")]
    Nul,
}

impl FilePath {
    /// The root directory.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Checks a path that names a file or directory. One leading slash is accepted and dropped.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let path = text.strip_prefix('/').unwrap_or(text);
        match path {
            "" => Err(NameError::Empty),
            _ if path.len() > PATH_BYTES_MAX => Err(NameError::TooLong),
            _ if path.contains('\0') => Err(NameError::Nul),
            _ if path.split('/').any(str::is_empty) => Err(NameError::EmptyComponent),
            _ if path.split('/').any(|part| part == "." || part == "..") => Err(NameError::Dots),
            _ if path.split('/').any(|part| part.len() > COMPONENT_BYTES_MAX) => {
                Err(NameError::LongComponent)
            }
            _ => Ok(Self(path.to_owned())),
        }
    }

    /// Checks a path that may also be the root, written `` or `/`, and may end in a slash.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn parse_dir(text: &str) -> Result<Self, NameError> {
        match text {
            "" | "/" => Ok(Self::root()),
            _ => Self::parse(text.strip_suffix('/').unwrap_or(text)),
        }
    }

    /// The path as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The last component; `None` for the root.
    pub fn base(&self) -> Option<&str> {
        self.components().next_back()
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// [`NameError`] when the component or the whole path breaks a rule.
    pub fn join(&self, component: &str) -> Result<Self, NameError> {
        match self.is_root() {
            true => Self::parse(component),
            false => Self::parse(&format!("{}/{component}", self.0)),
        }
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes in a whole path: what Linux takes.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes in one component: what is a key elsewhere fits, and four times what file systems take.
pub const COMPONENT_BYTES_MAX: usize = 1024;
