"""The people's side: decides what runs next. Never imports `worker`."""
