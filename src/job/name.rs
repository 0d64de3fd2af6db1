//! Names of jobs and of their executions.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::limits::MAX_NAME_BYTES;
use crate::operation::name::{Id, Name, NameError, Parent, check_id};

/// The full name of a job: `jobs/{id}` or `{parent}/jobs/{id}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName {
    text: Arc<str>,
    parent_length: usize,
}

/// The full name of an execution: `{job}/executions/{id}`. Its id is that of its operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecutionName {
    /// The job.
    pub job: JobName,
    /// The id.
    pub id: Uuid,
}

impl JobName {
    /// The name of that job below `parent`.
    ///
    /// # Errors
    /// [`NameError`] if it is so long that the names of its executions would be too long.
    pub fn new(parent: &Parent, id: &str) -> Result<Self, NameError> {
        let id = checked_id(id)?;
        let parent = parent.as_str();
        let separator = if parent.is_empty() { "" } else { "/" };
        let text = format!("{parent}{separator}{JOBS}/{id}");
        if text.len() > MAX_JOB_NAME_BYTES {
            let bytes = text.len();
            let why = format!("it has {bytes} bytes, at most {MAX_JOB_NAME_BYTES} are allowed");
            return Err(fault(&text, JOB, why));
        }
        Ok(Self { text: text.into(), parent_length: parent.len() })
    }

    /// Reads a full name.
    ///
    /// # Errors
    /// [`NameError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let looks = || {
            let why = "it looks like jobs/ID or projects/P/jobs/ID".to_owned();
            fault(text, JOB, why)
        };
        let (path, id) = text.rsplit_once('/').ok_or_else(looks)?;
        let parent = match path.strip_suffix(JOBS) {
            Some("") => "",
            Some(parent) if parent.len() > 1 => parent.strip_suffix('/').ok_or_else(looks)?,
            _ => return Err(looks()),
        };
        Self::new(&Parent::parse(parent)?, id)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parent's text; empty for the root.
    pub fn parent(&self) -> &str {
        &self.text[..self.parent_length]
    }

    /// The name of one of its executions.
    pub fn execution(&self, id: Uuid) -> ExecutionName {
        ExecutionName { job: self.clone(), id }
    }
}

impl ExecutionName {
    /// Reads a full name.
    ///
    /// # Errors
    /// [`NameError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let looks = || {
            let why = "it looks like jobs/ID/executions/UUID, a job's name may stand before it";
            fault(text, "the name of an execution", why.to_owned())
        };
        let (path, id) = text.rsplit_once('/').ok_or_else(looks)?;
        let job = path.strip_suffix("/executions").ok_or_else(looks)?;
        let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id);
        Ok(Self { job: JobName::parse(job)?, id: uuid.ok_or_else(looks)? })
    }

    /// The operation that does the work of the execution. Its parent is that of the job.
    ///
    /// # Panics
    /// Never: the job's name was checked for it.
    pub fn operation(&self) -> Name {
        let parent = Parent::parse(self.job.parent()).expect("checked with the job's name");
        Name::new(&parent, &Id::from_uuid(self.id)).expect("shorter than the execution's name")
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for JobName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
    }
}

impl fmt::Display for ExecutionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/executions/{}", self.job, self.id)
    }
}

fn checked_id(id: &str) -> Result<&str, NameError> {
    check_id(id).map(|()| id).map_err(|error| NameError { wanted: "a job id", ..error })
}

fn fault(text: &str, wanted: &'static str, fault: String) -> NameError {
    const READABLE: usize = 80;
    NameError { text: text.chars().take(READABLE).collect(), wanted, fault }
}

const JOBS: &str = "jobs";
const JOB: &str = "the name of a job";
/// What follows a job's name in that of an execution.
const EXECUTION_BYTES: usize = "/executions/".len() + 36;
const MAX_JOB_NAME_BYTES: usize = MAX_NAME_BYTES - EXECUTION_BYTES;
