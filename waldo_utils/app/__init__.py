"""Search by photo, folders of your own, and the demo."""
