//! The state machine by tables, the service by stories.
