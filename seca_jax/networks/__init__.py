"""What learners compute with: agents, the critic f(s; v), mixers."""
