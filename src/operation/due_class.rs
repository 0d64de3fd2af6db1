//! Classes of due times.

/// The classes of due times, each with an index of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DueClass {
    /// A lease expires.
    Lease = 1,
    /// The time of its first attempt.
    Start = 2,
    /// The end of the pause after an attempt.
    Retry = 3,
    /// An attempt has lasted too long.
    Attempt = 4,
    /// No worker took it in time.
    Queue = 5,
    /// Its deadline passes.
    Deadline = 6,
    /// Its worker did not stop in time.
    Grace = 7,
    /// A suspension ends by itself.
    Resume = 8,
    /// It was kept long enough.
    Retention = 9,
    /// Its name was remembered long enough.
    Tombstone = 10,
}

impl DueClass {
    /// All classes.
    pub const ALL: [Self; 10] = [
        Self::Lease,
        Self::Start,
        Self::Retry,
        Self::Attempt,
        Self::Queue,
        Self::Deadline,
        Self::Grace,
        Self::Resume,
        Self::Retention,
        Self::Tombstone,
    ];

    /// The class's name.
    pub fn as_str(self) -> &'static str {
        self.index().trim_start_matches("due/")
    }

    /// The name of the index.
    pub const fn index(self) -> &'static str {
        match self {
            Self::Lease => "due/lease",
            Self::Start => "due/start",
            Self::Retry => "due/retry",
            Self::Attempt => "due/attempt",
            Self::Queue => "due/queue",
            Self::Deadline => "due/deadline",
            Self::Grace => "due/grace",
            Self::Resume => "due/resume",
            Self::Retention => "due/retention",
            Self::Tombstone => "due/tombstone",
        }
    }

    /// The class of an index.
    pub fn of_index(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.index() == name)
    }

    /// The class of that stored number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u32 == number)
    }
}
