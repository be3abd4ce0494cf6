//! The External Storage Interface: find a provider, run an action, check a provider.
