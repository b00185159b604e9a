"""HTTP only: each dialect is a schema, a translation, a rendering and a controller."""
