"""The toy landmarks: photographs, views, clutter."""
