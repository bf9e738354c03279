"""Adapters that every service uses: database, jobs, bell, objects, HTTP. Knows no domain noun."""
